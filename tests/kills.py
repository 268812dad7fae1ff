"""Children that are killed: before each change to a file in turn, or in the middle of it; and many at once."""

import builtins
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator


def arm(left: int) -> None:
    """From now on this process is killed just before its `left`-th change to a file; a write has two halves."""

    def point() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if changes:
            point()

    class File(io.FileIO):
        def write(self, data):  # type: ignore[no-untyped-def]
            data = bytes(data)
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                point()
                assert super().write(half) == len(half)
            return len(data)

        def truncate(self, size=None):  # type: ignore[no-untyped-def]
            point()
            return super().truncate(size)

    def opened(path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):  # type: ignore[no-untyped-def]
        if not set(mode) & set("wax"):
            return real_open(path, mode, buffering, encoding, errors, newline, closefd, opener)
        file = File(path, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return file
        buffered = io.BufferedWriter(file)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    real_open = io.open
    io.open = builtins.open = opened
    os.fsync = lambda descriptor: point()  # a kill, unlike a power cut, needs no fsync
    sys.addaudithook(audit)


def start(action: Callable[[], object]) -> int:
    """Do it in a child; the process id."""
    if child := os.fork():
        return child
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def killed(child: int) -> bool:
    """Await a child: whether it was killed. It may not fail in any other way."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def eight_at_once(action: Callable[[], object]) -> None:
    """Do it in eight children that begin together."""
    reading, writing = os.pipe()

    def wait() -> None:
        os.close(writing)
        os.read(reading, 1)  # ends when the parent has closed its side
        action()

    children = [start(wait) for _ in range(8)]
    os.close(writing)
    os.close(reading)
    assert [killed(child) for child in children] == [False] * 8


def each_kill(action: Callable[[], object], before: Callable[[], object]) -> Iterator[int]:
    """Do it again and again, killed one change to a file later each time, until it is done."""
    for operation in range(10_000):
        before()

        def armed(operation: int = operation) -> None:
            arm(operation)
            action()

        if not killed(start(armed)):
            return
        yield operation
