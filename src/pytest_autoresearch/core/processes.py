"""The descendants of a process (Linux; elsewhere none are found): what they have used, and how to kill them.

Nothing here recurses, because a program may make a chain of thousands.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PR_SET_PDEATHSIG = 1
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


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
