"""The candidate's process as the referee holds it: its socket, its log, its shared memory, and its end."""

import ctypes
import json
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pytest_autoresearch.track import threads

LOG_BYTES = 1 << 20  # of what a candidate prints, this much of its beginning and of its end is kept
PR_SET_PDEATHSIG = 1
TICK = 0.1  # seconds between two looks at a silent candidate
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}
"""What a user's own settings override. Threads that spin for long while they wait for each other slow a run down
many times over where another process wants a core; threads that never spin are slow to wake for a small model."""


class Died(Exception):
    """The process ended without a word: (how, its last lines of output)."""


class Forged(Exception):
    """Something other than the harness wrote to the socket."""


class Candidate:
    """The untrusted process: its socket, its log, its shared memory, and its end."""

    def __init__(self, folder: Path, buffer_size: int) -> None:
        self.peak_memory = 0  # bytes
        self._lines: list[bytes] = []
        self._partial = b""
        self._log = _Log(folder / "log.txt")
        file = _shared_file(buffer_size)
        self.memory = mmap.mmap(file.fileno(), buffer_size)
        self._channel, theirs = socket.socketpair()
        with file, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pytest_autoresearch.candidate", str(theirs.fileno()), str(file.fileno())],
                cwd=folder,
                env=ENVIRONMENT
                | os.environ
                | {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(threads())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), file.fileno()],
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ, self._read_messages)
        self._selector.register(self._output, selectors.EVENT_READ, self._read_output)

    def __enter__(self) -> "Candidate":
        return self

    def send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it has died: the next receive says how
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, tick: Callable[[], None]) -> dict[str, Any]:
        """The next message; `tick` is called some times a second meanwhile. Died, Forged."""
        while not self._lines:
            gone = self._process.poll() is not None  # asked before reading, so that its last words are read
            for key, _ in self._selector.select(0 if gone else TICK):
                key.data()
            if gone and not self._lines:
                raise Died(self._how_it_ended(), self._log.last_lines())
            tick()
        line = self._lines.pop(0)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Forged(f"wrote to the referee's socket: {line[:80]!r}")
        return message

    def _read_messages(self) -> None:
        try:
            data = self._channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._channel)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines += lines
        if len(self._partial) > LOG_BYTES:
            raise Forged("wrote to the referee's socket: a line without an end")

    def _read_output(self) -> None:
        data = self._output.read(1 << 16)
        if data:
            self._log.write(data)
        elif data == b"":
            self._selector.unregister(self._output)

    def note_memory(self) -> None:
        """Peak memory (bytes) so far of the program's process, the watcher's child, as the kernel counted it."""
        watcher = self._process.pid
        try:
            children = Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()
            status = Path(f"/proc/{children[0]}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        except (OSError, IndexError, ValueError):
            return
        self.peak_memory = max(self.peak_memory, peak)

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"the process ended itself with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")

    def __exit__(self, *exception: object) -> None:
        """Hang up, upon which the watcher ends whatever the run has started; see that it did, and close the log."""
        self.note_memory()
        self._selector.close()
        self._channel.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        with suppress(OSError):  # the watcher itself may have been killed
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while data := self._output.read(1 << 16):  # its last words, until there are none (None: others hold the pipe)
            self._log.write(data)
        self._output.close()
        self._log.close()


class _Log:
    """`log.txt`: the beginning of what a candidate prints as it comes, and the end once it is over."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._tail = b""
        self._dropped = 0

    def write(self, data: bytes) -> None:
        head = data[: max(0, LOG_BYTES - self._written)]
        self._file.write(head)
        self._written += len(head)
        self._tail += data[len(head) :]
        if len(self._tail) > 2 * LOG_BYTES:
            self._dropped += len(self._tail) - LOG_BYTES
            self._tail = self._tail[-LOG_BYTES:]

    def last_lines(self, count: int = 5) -> str:
        """The end of what was printed, for a process that could not say why it died."""
        text = self._tail or Path(self._file.name).read_bytes()[-4096:]
        return "\n".join(text.decode(errors="replace").splitlines()[-count:])

    def close(self) -> None:
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes not kept ...]\n".encode())
        self._file.write(self._tail)
        self._file.close()


def _shared_file(size: int) -> IO[bytes]:
    """An unnamed file with room for `size` bytes, in memory where that has room for it."""
    if sys.platform == "linux":
        with suppress(OSError):  # a container's /dev/shm may be small: then a write would kill the writer
            file = tempfile.TemporaryFile(dir="/dev/shm")  # noqa: SIM115
            os.posix_fallocate(file.fileno(), 0, size)
            return file
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def die_with_parent() -> None:
    """Have this process killed when its parent ends (Linux): a worker of xdist would linger, and its run with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
