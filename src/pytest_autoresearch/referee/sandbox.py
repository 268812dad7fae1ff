"""The sandbox of a candidate: bubblewrap, with its own file systems, processes and network.

A candidate sees the system, Python, the packages and its own program, all read-only. It does not see the project, the
held-out text, wherever it lies, the user's home, the network or other processes. It can write only to /tmp, which is
in memory and ends with the run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError

PACKAGE = Path(__file__).parents[1]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/sys")
KERNEL = Path("/sys")
SECRETS = ("/etc/shadow*", "/etc/gshadow*", "/etc/ssl/private")
DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/dxg")
WORKING_FOLDER = Path("/tmp/run")
HOME = "/tmp/home"
OWN_FOLDERS = {"HOME": HOME, "TMPDIR": "/tmp", "XDG_CACHE_HOME": f"{HOME}/.cache"}
"""Environment variables that replace the user's."""
SECRET = re.compile("TOKEN|SECRET|PASS|CREDENTIAL|KEY|SOCK|COOKIE|AUTH", re.IGNORECASE)
"""Part of the name of environment variables that a candidate does not get."""


@dataclass(frozen=True)
class Sandbox:
    """The paths that a candidate sees, and the hidden ones. For nested paths, the inner one decides.

    A hidden path need not exist yet: if it does when a candidate starts, it is hidden from this one.
    """

    bwrap: str
    shown: tuple[Path, ...]
    hidden: tuple[Path, ...]

    def wrap(self, command: list[str], *readable: Path) -> list[str]:
        """The command line that runs `command` in the sandbox. There it can also read the `readable` paths."""
        mounts: list[tuple[int, list[str]]] = []
        hidden = [path for path in self.hidden if os.path.exists(path)]
        folders = [path for path in hidden if not path.is_file()]
        for path in hidden:
            mask = ["--tmpfs"] if path in folders else ["--ro-bind", "/dev/null"]
            mounts.append((len(path.parts), [*mask, str(path)]))
        for path in self.shown:
            # A link stays a link: bound to a second place, the folder would show there what is hidden in the first.
            how = "--ro-bind" if path == path.resolve() else "--symlink"
            mounts.append((len(path.parts), [how, str(path.resolve()), str(path)]))
        for path in readable:
            mounts.append((len(path.parts), ["--ro-bind", str(path.resolve()), str(path)]))
        devices = [part for device in DEVICES for path in glob(device) for part in ("--dev-bind", path, path)]
        return [
            *(self.bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
            *("--tmpfs", "/tmp", "--dir", HOME, "--dir", str(WORKING_FOLDER)),
            *(part for _, mount in sorted(mounts, key=lambda mount: mount[0]) for part in mount),
            *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),  # root could change the kernel's settings
            *("--dev", "/dev", *devices),
            *(part for path in folders for part in ("--remount-ro", str(path))),
            *("--remount-ro", "/", "--chdir", str(WORKING_FOLDER), "--", *command),
        ]

    @staticmethod
    def environment(variables: Mapping[str, str]) -> dict[str, str]:
        """The part of the environment that a candidate gets."""
        return {name: value for name, value in variables.items() if not SECRET.search(name)} | OWN_FOLDERS

    def check(self) -> str:
        """Try to start a candidate in the sandbox. Returns why that failed, or ""."""
        command = [sys.executable, "-P", "-c", "import pytest_autoresearch.candidate.__main__"]
        try:
            tried = subprocess.run(
                self.wrap(command), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"{self.bwrap} does not work here ({last})" if tried.returncode else ""


def find_sandbox(
    mode: str, hidden: Iterable[Path], hidden_in: Callable[[list[Path]], Iterable[Path]] = lambda shown: ()
) -> tuple[Sandbox | None, str]:
    """The sandbox for `--ar-sandbox auto|bwrap|off`, or None, and the words for it.

    It hides `hidden`, and what `hidden_in` finds to hide in the folders that are shown. UsageError if "bwrap" is asked
    for and does not work.
    """
    if mode == "off":
        return None, "no sandbox (--ar-sandbox off)"
    bwrap = shutil.which("bwrap")
    why = "bubblewrap is not installed"
    if bwrap:
        secrets = [Path(path) for pattern in SECRETS for path in glob(pattern)]
        out_of_sight = _both_names([*hidden, *secrets])
        in_sight = shown(out_of_sight)
        out_of_sight += hidden_in([path for path in in_sight if path != KERNEL])
        sandbox = Sandbox(bwrap, tuple(in_sight), tuple(dict.fromkeys(out_of_sight)))
        why = sandbox.check()
        if not why:
            return sandbox, "sandbox bubblewrap"
    if mode == "bwrap":
        raise UsageError(f"--ar-sandbox bwrap: {why}")
    return None, f"no sandbox: {why}"


def shown(hidden: Iterable[Path]) -> list[Path]:
    """The system and the folders of Python's modules, except the project's: programs do not import those.

    A folder inside another is left out, unless something hidden lies between them. A link is there with its target.
    """
    python = [Path(path) for path in (*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)]
    for name in ("torch", "numpy"):
        spec = find_spec(name)
        python += [Path(location).parent for location in (spec and spec.submodule_search_locations) or []]
    others = [Path(path) for path in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)) if path]
    near = [h for h in hidden if h.is_dir()]
    others = [path for path in others if not any(path.is_relative_to(h) or h.is_relative_to(path) for h in near)]
    kept: list[Path] = []
    for path in sorted(_both_names([*python, *others, PACKAGE]), key=lambda path: len(path.parts)):
        around = next((folder for folder in path.parents if folder in kept or folder in near), None)
        if path.exists() and around not in kept:
            kept.append(path)
    return kept


def _both_names(paths: Iterable[Path]) -> list[Path]:
    """Each path, and its real path if a symbolic link leads there."""
    return list(dict.fromkeys(name for path in paths for name in (Path(os.path.abspath(path)), path.resolve())))
