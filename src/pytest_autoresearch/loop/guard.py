"""The process between the loop and an agent: it keeps the agent's output, and ends all processes that it started.

It ends them when the agent ends, or when the loop closes its end of a socket, as a loop that is killed does. The loop
starts it as `python -I -S`, so it begins in milliseconds; it must import nothing heavy.
"""

import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO

from pytest_autoresearch.core.processes import adopt_orphans, die_with_parent, end_children, reap

HEAD, TAIL = 256_000, 2_000_000
"""How many bytes of an agent's output are kept: the first ones, and the last ones."""
TICK = 50  # milliseconds between two looks at a silent agent
CHUNK = 1 << 16


class Log:
    """The output of an agent. Its file never has more than the first `HEAD` bytes and twice the last `TAIL` bytes."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._left_out = 0
        self._mark = b""

    def take(self, pipe: int) -> bool:
        """Read what has come, and write it. Returns whether more may come."""
        try:
            data = os.read(pipe, CHUNK)
        except BlockingIOError:
            return True
        with suppress(OSError):  # on a full disk the agent goes on, without a log
            if data and self._file.write(data) and self._file.tell() > HEAD + 2 * TAIL:
                self.shorten()
        return bool(data)

    def shorten(self) -> None:
        """Leave out the middle, if it is too long."""
        size = self._file.seek(0, os.SEEK_END)
        if (left_out := size - HEAD - len(self._mark) - TAIL) > 0:
            self._file.seek(-TAIL, os.SEEK_END)
            tail = self._file.read(TAIL)
            self._left_out += left_out
            self._mark = f"\n[{self._left_out} bytes are left out here]\n".encode()
            self._file.seek(HEAD)
            self._file.write(self._mark + tail)
            self._file.truncate()


def start(command: list[str], environment: Mapping[str, str], output: int) -> int:
    """Start an agent in a session of its own, without a terminal. It ends when this process ends (Linux)."""
    guard = os.getpid()
    if child := os.fork():
        return child
    try:
        os.setsid()
        die_with_parent()
        if os.getppid() != guard:  # it has ended before it could be said
            os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execve(command[0], command, environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def watch(command: list[str], environment: Mapping[str, str], channel: int, log: Log) -> int:
    """Start an agent, keep its output until it has ended or the loop hangs up, and end its processes.

    Returns its exit code, or minus the number of a signal.
    """
    adopt_orphans()
    reading, writing = os.pipe()
    child = start(command, environment, writing)
    os.close(writing)
    os.set_blocking(reading, False)
    events = select.poll()
    events.register(channel, select.POLLIN)
    events.register(reading, select.POLLIN)
    codes: dict[int, int] = {}
    while child not in codes:
        ready = [descriptor for descriptor, _ in events.poll(TICK)]
        if channel in ready:
            break
        if reading in ready and not log.take(reading):
            events.unregister(reading)  # it has closed its output, and may work on
        reap(codes)
    end_children(child)
    for _ in range(CHUNK):  # what is left in the pipe, which a process that is not ours may hold and fill
        if not select.select([reading], [], [], 0)[0] or not log.take(reading):
            break
    with suppress(OSError):
        log.shorten()
    return codes.get(child, -signal.SIGKILL)


def main() -> None:
    """`guard CHANNEL LOG MARK COMMAND…`: two open files by their descriptors, and a variable NAME=value.

    The agent gets the variable, and this process does not: whoever finds the agent's processes by it spares the guard.
    """
    channel, log = int(sys.argv[1]), int(sys.argv[2])
    mark, *command = sys.argv[3:]
    for descriptor in (channel, log):
        os.set_inheritable(descriptor, False)  # they are not the agent's
    name, _, value = mark.partition("=")
    with FileIO(log, "r+") as file:
        code = watch(command, {**os.environ, name: value}, channel, Log(file))
    with suppress(OSError):  # the loop is gone
        os.write(channel, str(code).encode())
