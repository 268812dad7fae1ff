"""CPU time and memory of a run, from the kernel (Linux), and the end of its processes."""

import ctypes
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.processes import PATIENCE, Process, kill, tree

KCMP_VM = 1
SHARE = 0.02  # the most of the time that goes into measuring shared memory


@dataclass(frozen=True)
class Usage:
    """`cpu`: CPU seconds of all processes of a run. `cpu_of_others`: CPU seconds of those that the program started.

    `memory`: the most bytes that all processes had together. Memory that several share counts once.
    """

    cpu: float = 0.0
    cpu_of_others: float = 0.0
    memory: int = 0


class ProcessTree:
    """The process `pid` and its descendants. The program is the first one found `depth` levels below `pid`."""

    def __init__(self, pid: int, depth: int, adds_memory: bool = True) -> None:
        """`adds_memory`: the memory of a run is that of all its processes, not only of the largest one."""
        self._pid, self._depth, self._adds_memory = pid, depth, adds_memory
        self._program = 0  # its process number, once it is known
        self._last: list[Process] = []
        self._next_walk = 0.0
        self.usage = Usage()

    def look(self, full: bool = False) -> Usage:
        """What the run has used so far. All numbers stay 0 on systems without /proc.

        `full`: measure the memory of several processes together even if that has just taken long.
        """
        cpu = own = 0.0
        self._last = tree(self._pid)
        for process in self._last:
            if process.depth == self._depth and not self._program:
                self._program = process.pid
            cpu += process.cpu + process.cpu_of_children
            if process.pid == self._program or process.depth < self._depth:
                own += process.cpu
        # The time of a process is lost when it ends and no parent waits for it, so neither sum may fall.
        before = self.usage
        others, memory = max(before.cpu_of_others, cpu - own), max(before.memory, self._memory(full))
        self.usage = Usage(max(before.cpu, cpu), others, memory)
        return self.usage

    def _memory(self, full: bool) -> int:
        """The most bytes that one process had, or what all have now, if there are more processes than usual."""
        living = [process for process in self._last if process.alive]
        peak = max((kilobytes(f"{process.pid}/status", "VmHWM") for process in living), default=0) * 1024
        began = time.monotonic()
        if not self._adds_memory or len(living) <= self._depth + 1 or (began < self._next_walk and not full):
            return peak
        # For this the kernel walks through all pages, some 10 ms a GB, and changes to the memory wait meanwhile.
        together = sum(_kilobytes_of_its_own(process) for process in living)
        self._next_walk = began + (time.monotonic() - began) / SHARE
        return max(peak, together * 1024)

    def kill(self) -> None:
        """Kill all processes of the run but `pid`: what is below it, or was at the last look and lost its parent."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = [process for process in tree(self._pid, *self._orphans()) if process.pid != self._pid]
            kill(found)
            if not any(process.alive for process in found):
                return
            time.sleep(0.005)

    def _orphans(self) -> list[int]:
        """Processes of the last look that still live. A later process with the same number started at another time."""
        found = []
        for process in self._last:
            with suppress(OSError):
                if process.pid != self._pid and Process.read(process.pid).started == process.started:
                    found.append(process.pid)
        return found


def _kilobytes_of_its_own(process: Process) -> int:
    """A process's memory, and its part of what it shares. 0 if it uses its parent's memory (vfork, before an exec)."""
    kcmp = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
    if kcmp and ctypes.CDLL(None).syscall(kcmp, process.pid, process.parent, KCMP_VM, 0, 0) == 0:
        return 0
    return kilobytes(f"{process.pid}/smaps_rollup", "Pss") or kilobytes(f"{process.pid}/status", "VmRSS")


def kilobytes(file: str, name: str) -> int:
    """The number after `name:` at the beginning of a line in a file of /proc, or 0.

    A process may choose its own name, which the first line of `status` shows, with any byte but a newline in it.
    """
    with suppress(OSError, IndexError, ValueError):
        for line in Path("/proc", file).read_bytes().split(b"\n"):
            if line.startswith(f"{name}:".encode()):
                return int(line.split()[1])
    return 0


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/vmstat").read_text().partition("oom_kill ")[2].split()[0])
    return 0
