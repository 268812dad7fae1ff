"""The sandbox of a candidate: bubblewrap, with its own file systems, processes and network.

A candidate sees the system, Python, the packages and its own program, all read-only. It does not see the project, the
held-out text, wherever it lies, the user's home, the network or other processes. It can write only to /tmp and
/dev/shm, which are in memory and end with the run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
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
LET_IN = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX", "CC", "CXX"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "GLIBC_TUNABLES"),
        *("SYSTEMROOT", "PATHEXT", "COMSPEC", "USERPROFILE", "TEMP", "TMP"),  # Windows
    )
)
FAMILIES_LET_IN = (
    *("LC_", "PYTHON", "TORCH", "PYTORCH_", "TRITON_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_"),
    *("HIP_", "HSA_", "ROCR_", "ROCM_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "MALLOC_"),
)
"""Environment variables that a candidate gets: these names, and all that begin with one of these families."""
SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|KEY", re.IGNORECASE)
"""What the name of such a variable must not hold."""
PASSWORD = re.compile(r"://[^/\s]*@|[^/\s:]+:[^/\s@]+@")
"""What its value must not hold: https://user@host, user:password@host."""


@dataclass(frozen=True)
class Sandbox:
    """The paths that a candidate sees, and the hidden ones. For nested paths, the inner one decides.

    A hidden path need not exist yet: if it does when a candidate starts, it is hidden from this one. `sizes`: whether
    bubblewrap can limit the size of its file systems in memory.
    """

    bwrap: str
    shown: tuple[Path, ...]
    hidden: tuple[Path, ...]
    sizes: bool = True

    def wrap(self, command: list[str], *readable: Path, room: float | None = None) -> list[str]:
        """The command line that runs `command` in the sandbox. There it can also read the `readable` paths.

        `room`: bytes of each of the two file systems in memory that it can write to; if None, a quarter of the memory.
        """
        size = ("--size", str(int(room or _memory() / 4))) if self.sizes else ()
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
            *(*size, "--tmpfs", "/tmp", "--dir", HOME, "--dir", str(WORKING_FOLDER)),
            *(part for _, mount in sorted(mounts, key=lambda mount: mount[0]) for part in mount),
            *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),  # root could change the kernel's settings
            *("--dev", "/dev", *devices, *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
            *(part for path in folders for part in ("--remount-ro", str(path))),
            *("--remount-ro", "/", "--chdir", str(WORKING_FOLDER), "--", *command),
        ]

    def check(self) -> str:
        """Try to start a candidate in the sandbox. Returns why that failed, or ""."""
        why = why_not(self.wrap([sys.executable, "-P", "-c", "import pytest_autoresearch.candidate.__main__"]))
        return why and f"{self.bwrap} does not work here ({why})"


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
        masked = _both_names([*hidden, *secrets])
        visible = shown(masked)
        masked += hidden_in([path for path in visible if path != KERNEL])
        sandbox = Sandbox(bwrap, tuple(visible), tuple(dict.fromkeys(masked)), _knows_sizes(bwrap))
        why = sandbox.check()
        if not why:
            return sandbox, "sandbox bubblewrap"
    if mode == "bwrap":
        raise UsageError(f"--ar-sandbox bwrap: {why}")
    return None, f"no sandbox: {why}"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that a candidate gets, in the sandbox and without it."""
    return {
        name: value
        for name, value in variables.items()
        if name in LET_IN or (name.startswith(FAMILIES_LET_IN) and not SECRET.search(name))
        if not PASSWORD.search(value)
    }


def check_filter(wrap: Callable[[list[str]], list[str]] = list) -> str:
    """Try to filter a process's system calls. Returns why that failed, or "".

    `wrap` puts a command line into the sandbox that candidates run in.
    """
    command = [sys.executable, "-P", "-m", "pytest_autoresearch.candidate.system_calls"]
    return why_not(wrap(command))


def shown(hidden: Iterable[Path]) -> list[Path]:
    """The system and the folders of Python's modules, except the project's: programs do not import those.

    A folder inside another one is left out, unless something hidden lies between them. A link comes with its target.
    """
    python = [Path(path) for path in (*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)]
    for name in ("torch", "numpy"):
        spec = find_spec(name)
        python += [Path(location).parent for location in (spec and spec.submodule_search_locations) or []]
    others = [Path(path) for path in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)) if path]
    folders = [path for path in hidden if path.is_dir()]
    others = [path for path in others if not any(path.is_relative_to(h) or h.is_relative_to(path) for h in folders)]
    kept: list[Path] = []
    for path in sorted(_both_names([*python, *others, PACKAGE]), key=lambda path: len(path.parts)):
        around = next((folder for folder in path.parents if folder in kept or folder in folders), None)
        if path.exists() and around not in kept:
            kept.append(path)
    return kept


def _both_names(paths: Iterable[Path]) -> list[Path]:
    """Each path, and its real path if a symbolic link leads there."""
    return list(dict.fromkeys(name for path in paths for name in (Path(os.path.abspath(path)), path.resolve())))


def why_not(command: list[str]) -> str:
    """Run a command. Returns the last line of why it failed, or ""."""
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (tried.stderr.strip().splitlines() or ["no reason given"])[-1] if tried.returncode else ""


def _knows_sizes(bwrap: str) -> bool:
    """Whether this bubblewrap has the option --size, which is younger than the others."""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run([bwrap, "--help"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        return "--size " in said.stdout + said.stderr
    return False


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
