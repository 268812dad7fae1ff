"""CPU time and memory of a process and all of its descendants, from the kernel (Linux)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Usage:
    """`cpu`: CPU seconds of all processes of a run; `cpu_of_others`: of the processes that the program started.
    `memory`: bytes of all processes now; `peak_memory`: the most bytes that one process had."""

    cpu: float = 0.0
    cpu_of_others: float = 0.0
    memory: int = 0
    peak_memory: int = 0


class ProcessTree:
    """The process `pid` and its descendants. The program is the first one found `depth` levels below `pid`."""

    def __init__(self, pid: int, depth: int) -> None:
        self._pid, self._depth = pid, depth
        self._program = 0  # its process number, once it is known
        self.usage = Usage()

    def look(self) -> Usage:
        """What the run has used so far. All numbers stay 0 on systems without /proc."""
        cpu = own = 0.0
        memory, peak = 0, self.usage.peak_memory
        for depth, pid in _tree(self._pid):
            if depth == self._depth and not self._program:
                self._program = pid
            with suppress(OSError, IndexError, ValueError):
                ticks = [
                    int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
                ]
                cpu += sum(ticks) / TICKS_PER_SECOND  # its own, and that of children it has waited for
                if pid == self._program or depth < self._depth:
                    own += sum(ticks[:2]) / TICKS_PER_SECOND
                status = Path(f"/proc/{pid}/status").read_text()
                memory += int(status.partition("VmRSS:")[2].split()[0]) * 1024
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        # The time of a process is lost when it ends and no parent waits for it, so neither sum may fall.
        others = max(self.usage.cpu_of_others, cpu - own)
        self.usage = Usage(max(self.usage.cpu, cpu), others, memory, peak)
        return self.usage


def _tree(pid: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """(depth, process number) of a process and its descendants."""
    yield depth, pid
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread lists those that it started
            for child in children.read_text().split():
                yield from _tree(int(child), depth + 1)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/vmstat").read_text().partition("oom_kill ")[2].split()[0])
    return 0
