"""The descendants of a process (Linux; elsewhere none are found): what they have used, and how to kill them.

A process that watches others ends all that they started with `adopt_orphans` and `end_children`.

Nothing here recurses, because a program may make a chain of thousands.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 30.0  # seconds in which killed processes end, however many there are
LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")  # a kernel may be built without these lists


@dataclass(frozen=True)
class Process:
    """A process at one moment. `depth` is its level below the process that was asked about, which has 0.

    `cpu` holds its own CPU seconds, `cpu_of_children` those of the children that it has waited for. `started` (in ticks
    since boot) tells it from an earlier process with the same number.
    """

    pid: int
    parent: int
    depth: int
    alive: bool
    group: int
    cpu: float
    cpu_of_children: float
    started: int

    @classmethod
    def read(cls, pid: int, depth: int = 0) -> "Process":
        """The process now, a zombie included. OSError if it is gone."""
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state, parent, group, *numbers = stat.rpartition(")")[2].split()  # a name may hold anything, brackets included
        user, system, users, systems = (int(ticks) / TICKS_PER_SECOND for ticks in numbers[8:12])
        alive = state not in "ZX"
        return cls(pid, int(parent), depth, alive, int(group), user + system, users + systems, int(numbers[16]))


def tree(*roots: int) -> list[Process]:
    """The processes `roots` and all of their descendants, the nearest first.

    A process that starts, or loses its parent, during the look may be missing: look again.
    """
    found: list[Process] = []
    coming = [(0, pid) for pid in roots]
    seen = set(roots)
    for depth, pid in coming:  # it grows meanwhile
        with suppress(OSError):
            found.append(Process.read(pid, depth))
        new = [child for child in _children(pid) if child not in seen]
        coming += [(depth + 1, child) for child in new]
        seen.update(new)
    return found


def _children(pid: int) -> list[int]:
    """Process numbers of a process's children. Each of its threads lists those that it started."""
    found: list[int] = []
    if not LISTS_CHILDREN:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                process = Process.read(int(stat.parent.name))
                found += [process.pid] * (process.parent == pid)
        return found
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def kill(processes: Iterable[Process]) -> None:
    """Kill the groups of processes, then the processes. A group dies at once, however fast its members fork.

    This process's own group is spared.
    """
    living = [process for process in processes if process.alive]
    groups = {-process.group for process in living if process.group > 1} - {-os.getpgrp()}
    for target in [*groups, *(process.pid for process in living)]:
        with suppress(OSError):
            os.kill(target, signal.SIGKILL)


def end(processes: Iterable[Process], grace: float = 0.0) -> None:
    """Wait until these processes have ended, and kill them after `grace` seconds.

    It returns `PATIENCE` seconds later in any case: not even SIGKILL ends what waits for a disk.
    """
    start, living = time.monotonic(), list(processes)
    while (living := [each for each in living if _lives(each)]) and time.monotonic() < start + grace + PATIENCE:
        if time.monotonic() >= start + grace:
            kill(living)
        time.sleep(0.005)


def _lives(process: Process) -> bool:
    """Whether a process that was seen before is still there."""
    with suppress(OSError):
        now_there = Process.read(process.pid)
        return now_there.alive and now_there.started == process.started
    return False


def signal_name(number: int) -> str:
    """`SIGKILL`; of a signal without a name its number."""
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """From now on, descendants of this process that lose their parent become its children (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(codes: dict[int, int]) -> bool:
    """Add the exit codes of children that have ended, adopted ones among them, to `codes`.

    Returns whether this process has children left.
    """
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
        return True
    return False


def end_children(group: int) -> None:
    """Kill the processes of a group and all descendants of this process, until it has no child left."""
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    while reap({}):
        kill(tree(os.getpid())[1:])
        time.sleep(0.005)


def end_marked(mark: str) -> None:
    """Kill all processes that began with the environment variable `mark`, NAME=value, wherever they are (Linux).

    It finds those whose parents, and whoever watched them, are gone. It returns when none is left, or after `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    while marked := [process for process in _of_this_user() if _is_marked(process, os.fsencode(mark))]:
        if time.monotonic() > deadline:
            return
        for pid in marked:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _of_this_user() -> list[int]:
    """The numbers of other processes of this user."""
    found = []
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid() and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
    return found


def _is_marked(pid: int, mark: bytes) -> bool:
    with suppress(OSError):
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")  # a process that has ended has none
    return False
