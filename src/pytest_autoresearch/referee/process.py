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
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pytest_autoresearch.core.files import copy_tree, remove_tree
from pytest_autoresearch.core.track import threads
from pytest_autoresearch.referee import compiled
from pytest_autoresearch.referee.sandbox import Sandbox

if sys.platform == "linux":
    import fcntl

LOG_BYTES = 1 << 20  # of what a candidate prints, this much of its beginning and of its end is kept
PR_SET_PDEATHSIG = 1
TICK = 0.1  # seconds between two looks at a silent candidate
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
MEMORY_TICK = 0.5  # seconds between two looks at a candidate's memory
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""What a user's own settings override. Threads that spin for long while they wait for each other slow a run down
many times over where another process wants a core; threads that never spin are slow to wake for a small model. Segments
of GPU memory that grow leave fewer gaps where little is left."""


class Died(Exception):
    """The process ended without a word: (how, its last lines of output)."""


class Killed(Exception):
    """The process was stopped for want of memory: (why, its last lines of output)."""


class Forged(Exception):
    """Something other than the harness wrote to the socket."""


@dataclass(frozen=True)
class Usage:
    """What the kernel counted of a run.

    `cpu`: seconds of all its processes; `cpu_of_others`: of those that the program started; `memory`: bytes that they
    have now; `peak_memory`: the most that one of them ever had.
    """

    cpu: float = 0.0
    cpu_of_others: float = 0.0
    memory: int = 0
    peak_memory: int = 0


class Candidate:
    """The untrusted process: its socket, its log, its shared memory, and its end."""

    def __init__(
        self,
        folder: Path,
        buffer_size: int,
        sandbox: Sandbox | None,
        memory_limit: float | None,
        compiled_code: Path | None = None,
    ) -> None:
        self.usage = Usage()
        self.keep_compiled = False
        """Whether what the run has compiled is kept, as the folder `compiled` beside its evidence."""
        self._memory_limit = memory_limit
        self._looked = 0.0
        self._program = 0  # its number, once it has one
        self._depth = 3 if sandbox else 1  # of the program below the process that is started: watcher, two of bwrap's
        self._out_of_memory_kills = _out_of_memory_kills()
        self._lines: list[bytes] = []
        self._partial = b""
        self._log = _Log(folder / "log.txt")
        self._own = folder / "files"
        self._own.mkdir()
        self._compiled = self._own / "compiled"
        if compiled_code:
            try:
                copy_tree(compiled_code, self._compiled)
            except OSError:  # then it compiles
                remove_tree(self._compiled)
        file = _shared_file(buffer_size)
        self.memory = mmap.mmap(file.fileno(), buffer_size)
        self._channel, theirs = socket.socketpair()
        with file, theirs:
            command = [sys.executable, "-P", "-m", "pytest_autoresearch.candidate"]
            command += [str(theirs.fileno()), str(file.fileno())]
            self._process = subprocess.Popen(
                sandbox.wrap(command, folder, self._own) if sandbox else command,
                cwd=self._own,
                env=ENVIRONMENT
                | (sandbox.environment(os.environ) if sandbox else os.environ)
                | compiled.environment(self._compiled)
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

    def send_file(self, file: int) -> None:
        """Hand over an open file, by its descriptor."""
        with suppress(OSError):
            socket.send_fds(self._channel, [b"\n"], [file])

    def receive(self, tick: Callable[[], None]) -> dict[str, Any]:
        """The next message; `tick` is called some times a second meanwhile. Died, Killed, Forged."""
        while not self._lines:
            gone = self._process.poll() is not None  # asked before reading, so that its last words are read
            for key, _ in self._selector.select(0 if gone else TICK):
                key.data()
            if gone and not self._lines:
                self._raise_how_it_ended()
            if time.monotonic() - self._looked > MEMORY_TICK:
                self._watch_memory()
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

    def look(self) -> Usage:
        """What the run has used so far (Linux)."""
        self._looked = time.monotonic()
        cpu = own = 0.0
        memory, peak = 0, self.usage.peak_memory
        for depth, pid in _tree(self._process.pid):
            if depth == self._depth and not self._program:
                self._program = pid
            with suppress(OSError, IndexError, ValueError):
                ticks = [
                    int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
                ]
                cpu += sum(ticks) / TICKS_PER_SECOND  # its own, and of children that it has waited for
                if pid == self._program or depth < self._depth:
                    own += sum(ticks[:2]) / TICKS_PER_SECOND
                status = Path(f"/proc/{pid}/status").read_text()
                memory += int(status.partition("VmRSS:")[2].split()[0]) * 1024
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        others = max(self.usage.cpu_of_others, cpu - own)  # what nobody waited for is counted no more once it is gone
        self.usage = Usage(max(self.usage.cpu, cpu), others, memory, peak)
        return self.usage

    def _watch_memory(self) -> None:
        used = self.look().memory
        if self._memory_limit and used > self._memory_limit:
            raise Killed(f"{used / 1e9:.2g} GB used, {self._memory_limit / 1e9:.2g} GB allowed", "")

    def _raise_how_it_ended(self) -> None:
        """Died or Killed, with the words for it."""
        code, last_lines = self._process.returncode, self._log.last_lines()
        if self._depth > 1 and code > 128:  # bubblewrap says it as a shell does
            code = 128 - code
        if code >= 0:
            raise Died(f"the process ended itself with exit code {code}", last_lines)
        if code == -signal.SIGKILL and _out_of_memory_kills() > self._out_of_memory_kills:
            raise Killed(f"{self.usage.peak_memory / 1e9:.2g} GB used when the system ran out of it", last_lines)
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        raise Died(f"killed by {name}", last_lines)

    def __exit__(self, *exception: object) -> None:
        """Hang up, upon which the watcher ends whatever the run has started; see that it did, and close the log."""
        self.look()
        self._selector.close()
        self._channel.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        with suppress(OSError):  # the watcher itself may have been killed
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while data := self._output.read(1 << 16):  # its last words, until there are none (None: others hold the pipe)
            self._log.write(data)
        self._output.close()
        self._log.close()
        made = self._own.parent / "compiled"
        with suppress(OSError):
            self._compiled.rename(made)  # out of the program's reach
        if not self.keep_compiled or made.is_symlink() or not made.is_dir():
            remove_tree(made)
        with suppress(OSError):  # what the program left there is evidence
            self._own.rmdir()


def _tree(pid: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """A process and all below it, each with its depth, where the system tells (Linux)."""
    yield depth, pid
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has those that it started
            for child in children.read_text().split():
                yield from _tree(int(child), depth + 1)


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory (Linux)."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/vmstat").read_text().partition("oom_kill ")[2].split()[0])
    return 0


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
    """An unnamed file of `size` bytes that keeps its size, in memory where that has room for it.

    A candidate that cut it short would have the referee killed when it looks behind the end (Linux: sealed).
    """
    if sys.platform == "linux":
        with suppress(OSError):  # where memory has no room a write would kill the writer
            file = os.fdopen(os.memfd_create("logits", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
            os.posix_fallocate(file.fileno(), 0, size)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return file
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def die_with_parent() -> None:
    """Have this process killed when its parent ends (Linux): a worker of xdist would linger, and its run with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
