"""The sandbox of a candidate: bubblewrap, which gives it file systems, processes and a network of its own.

It sees the system, Python and the packages, all read-only, and its own run's folder, which alone it can write to. There
is no project, no cache and so no held-out text, no home, no network, and no other process; /tmp ends with the run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError

PACKAGE = Path(__file__).parents[1]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/sys")
SECRETS = ("/etc/shadow*", "/etc/gshadow*", "/etc/ssl/private")
DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/dxg")
HOME = "/tmp/home"
OWN_FOLDERS = {"HOME": HOME, "TMPDIR": "/tmp", "XDG_CACHE_HOME": f"{HOME}/.cache"}
"""The user's are not there."""
SECRET = re.compile("TOKEN|SECRET|PASS|CREDENTIAL|KEY|SOCK|COOKIE|AUTH", re.IGNORECASE)
"""Names in the environment that a candidate has no business with."""


@dataclass(frozen=True)
class Sandbox:
    """What of the machine a candidate finds. Of two nested folders the inner one decides."""

    bwrap: str
    shown: tuple[Path, ...]
    hidden: tuple[Path, ...]

    def wrap(self, command: list[str], folder: Path, writable: Path) -> list[str]:
        """The command line that runs `command` in the sandbox, in `writable`; the `folder` around it is read-only."""
        mounts: list[tuple[int, list[str]]] = []
        for path in self.hidden:
            mask = ["--ro-bind", "/dev/null"] if path.is_file() else ["--tmpfs"]
            mounts.append((len(path.parts), [*mask, str(path)]))
        for path in (*self.shown, folder):
            mounts.append((len(path.parts), ["--ro-bind", str(path.resolve()), str(path)]))
        mounts.append((len(writable.parts), ["--bind", str(writable), str(writable)]))
        devices = [part for device in DEVICES for path in glob(device) for part in ("--dev-bind", path, path)]
        return [
            *(self.bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
            *("--tmpfs", "/tmp", "--dir", HOME),
            *(part for _, mount in sorted(mounts, key=lambda mount: mount[0]) for part in mount),
            *(
                "--proc",
                "/proc",
                "--ro-bind",
                "/proc/sys",
                "/proc/sys",
            ),  # for root could write to the kernel's settings
            *("--dev", "/dev", *devices, "--remount-ro", "/", "--chdir", str(writable)),
            *("--", *command),
        ]

    @staticmethod
    def environment(variables: Mapping[str, str]) -> dict[str, str]:
        """What of the environment a candidate gets."""
        return {name: value for name, value in variables.items() if not SECRET.search(name)} | OWN_FOLDERS

    def fault(self) -> str:
        """Why no candidate could start in this sandbox, or nothing."""
        command = [sys.executable, "-P", "-c", "import pytest_autoresearch.candidate.__main__"]
        folder = PACKAGE
        try:
            tried = subprocess.run(
                self.wrap(command, folder, Path("/tmp")),
                capture_output=True,
                text=True,
                timeout=30,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"{self.bwrap} does not work here ({last})" if tried.returncode else ""


def find_sandbox(mode: str, hidden: Iterable[Path]) -> tuple[Sandbox | None, str]:
    """The sandbox for `--ar-sandbox auto|bwrap|off`, and the words for it. UsageError where bwrap is missing."""
    if mode == "off":
        return None, "no sandbox (--ar-sandbox off)"
    bwrap = shutil.which("bwrap")
    why = "bubblewrap is not installed"
    if bwrap:
        secrets = [Path(path) for pattern in SECRETS for path in glob(pattern)]
        out_of_sight = tuple(path for path in _both_names([*hidden, *secrets]) if path.exists())
        sandbox = Sandbox(bwrap, tuple(shown(out_of_sight)), out_of_sight)
        why = sandbox.fault()
        if not why:
            return sandbox, "sandbox bubblewrap"
    if mode == "bwrap":
        raise UsageError(f"--ar-sandbox bwrap: {why}")
    return None, f"no sandbox: {why}"


def shown(hidden: Iterable[Path]) -> list[Path]:
    """The system, and where Python finds its modules, but for a project's own: a program is complete in itself."""
    python = [Path(path) for path in (*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)]
    for name in ("torch", "numpy"):
        spec = find_spec(name)
        python += [Path(location).parent for location in (spec and spec.submodule_search_locations) or []]
    others = [Path(path) for path in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)) if path]
    near = [h for h in hidden if h.is_dir()]
    others = [path for path in others if not any(path.is_relative_to(h) or h.is_relative_to(path) for h in near)]
    return [path for path in _both_names([*python, *others, PACKAGE]) if path.exists()]


def _both_names(paths: Iterable[Path]) -> list[Path]:
    """Each path as it is called and as it is, where a symbolic link leads to it."""
    return list(dict.fromkeys(name for path in paths for name in (Path(os.path.abspath(path)), path.resolve())))
