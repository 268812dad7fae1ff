"""The candidate's process on the referee's side: its socket, its output, its shared memory and its end."""

import mmap
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.processes import signal_name
from pytest_autoresearch.core.track import threads
from pytest_autoresearch.referee.failures import printable
from pytest_autoresearch.referee.run_files import RunLog
from pytest_autoresearch.referee.sandbox import OWN_FOLDERS, WORKING_FOLDER, Sandbox, environment
from pytest_autoresearch.referee.usage import ProcessTree, Usage, out_of_memory_kills

if sys.platform == "linux":
    import fcntl

TICK = 0.1  # seconds between two looks at a silent candidate
MEMORY_TICK = 0.5  # seconds between two looks at a candidate's memory
GRACE = 5.0  # seconds in which the watcher ends the run's processes
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Defaults that the user's own variables override. GOMP_SPINCOUNT: threads that spin long while they wait slow a run
down many times over if another process needs a core; threads that never spin wake too slowly for a small model.
PYTORCH_ALLOC_CONF: segments of GPU memory that can grow leave fewer gaps."""
FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
"""Signals that a program causes by its own fault. Any other signal may have come from outside."""


class ProcessExited(Exception):
    """The process ended without a message. `interrupted`: a signal ended it that may have come from outside."""

    def __init__(self, how: str, last_lines: str, interrupted: bool) -> None:
        super().__init__(how)
        self.last_lines, self.interrupted = last_lines, interrupted


class MemoryExceeded(Exception):
    """The run used too much memory. `last_lines`: the end of its output."""

    def __init__(self, why: str, last_lines: str = "") -> None:
        super().__init__(why)
        self.last_lines = last_lines


class Forged(Exception):
    """The candidate sent something that our own code in its process would not send."""


class Candidate:
    """The untrusted process. Use it as a context manager: at the end, all processes of the run are killed."""

    def __init__(
        self,
        program: Path,
        log: RunLog,
        buffer_size: int,
        sandbox: Sandbox | None,
        on_cpu: bool,
        memory_limit: float | None,
        deadline: float,
        tick: Callable[[], None],
    ) -> None:
        """Start the process. `buffer_size`: bytes of shared memory; `memory_limit`: bytes on a CPU, None for no limit;
        `deadline`: when `receive` gives up (monotonic seconds). While it waits, it calls `tick` each TICK seconds."""
        self._log, self._deadline, self._tick = log, deadline, tick
        self._memory_limit = memory_limit if on_cpu else None  # on a GPU it limits the GPU's memory
        self._looked = 0.0
        self._ended = False
        self._sandboxed = sandbox is not None
        self._out_of_memory_kills = out_of_memory_kills()
        self._lines: list[bytes] = []
        self._partial = b""
        self._scratch = None
        if not sandbox:
            self._scratch = tempfile.TemporaryDirectory(prefix="autoresearch-", ignore_cleanup_errors=True)
        file = _shared_file(buffer_size)
        self.memory = mmap.mmap(file.fileno(), buffer_size)
        self._channel, theirs = socket.socketpair()
        with file, theirs:
            command = [sys.executable, "-P", "-m", "pytest_autoresearch.candidate"]
            command += [str(theirs.fileno()), str(file.fileno()), str(program)]
            self._process = subprocess.Popen(
                sandbox.wrap(command, program, room=self._memory_limit) if sandbox else command,
                cwd=self._scratch.name if self._scratch else None,  # a sandbox changes the folder itself
                env=self._environment(sandbox),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), file.fileno()],
                start_new_session=True,
            )
        depth = 3 if sandbox else 1  # the watcher is above the program, and so are two processes of bubblewrap
        self._tree = ProcessTree(self._process.pid, depth, adds_memory=on_cpu)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ, self._read_messages)
        self._selector.register(self._output, selectors.EVENT_READ, self._read_output)

    def __enter__(self) -> "Candidate":
        return self

    def _environment(self, sandbox: Sandbox | None) -> dict[str, str]:
        """The candidate's variables. Temporary files and compiled code go into a folder that ends with the run."""
        folder = Path(self._scratch.name) if self._scratch else WORKING_FOLDER
        compiled = folder / ".compiled"
        return {
            **ENVIRONMENT,
            **environment(os.environ),
            **(OWN_FOLDERS if sandbox else {"TMPDIR": str(folder)}),
            "TORCHINDUCTOR_CACHE_DIR": str(compiled),
            "TRITON_CACHE_DIR": str(compiled / "triton"),
            "CUDA_CACHE_PATH": str(compiled / "cuda"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": str(threads()),
        }

    def send(self, message: protocol.Message, payload: bytes = b"") -> None:
        """Send a message. TimeoutError, MemoryExceeded if the candidate does not read it within its limits."""
        data = memoryview(protocol.encode(message) + payload)
        while data:
            try:
                data = data[self._channel.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                select.select([], [self._channel], [], TICK)
                self._check_limits()
                self._tick()
            except OSError:  # the process has ended: the next `receive` says how
                return

    def send_file(self, file: int) -> None:
        """Hand over an open file, by its descriptor."""
        with suppress(OSError):
            socket.send_fds(self._channel, [b"\n"], [file])

    def receive(self) -> protocol.Message:
        """The next message. TimeoutError after the deadline; ProcessExited, MemoryExceeded, Forged."""
        while not self._lines:
            gone = self._is_gone()  # before reading, so that the last messages are read, too
            for key, _ in self._selector.select(0 if gone else TICK):
                key.data()
            if gone and not self._lines:
                self.end()
                self._raise_how_it_ended()
            self._check_limits()
            self._tick()
        self._check_limits()  # also where messages come without a pause
        line = self._lines.pop(0)
        try:
            return protocol.decode(line)
        except ValueError:
            raise Forged(f"sent an unreadable message: {printable(line[:80].decode(errors='replace'), 80)}") from None

    def _check_limits(self) -> None:
        """Check the deadline, and now and then the memory. TimeoutError, MemoryExceeded."""
        now = time.monotonic()
        if now > self._deadline:
            raise TimeoutError
        if now - self._looked > MEMORY_TICK:
            used = self.look().memory
            if self._memory_limit and used > self._memory_limit:
                raise MemoryExceeded(f"{used / 1e9:.2g} GB used, {self._memory_limit / 1e9:.2g} GB allowed")

    def _read_messages(self) -> None:
        try:
            data = self._channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._channel)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines += lines
        if len(self._partial) > protocol.MAX_LINE:
            raise Forged("sent an unreadable message: a line without an end")

    def _read_output(self) -> None:
        data = self._output.read(1 << 16)
        if data:
            self._log.write(data)
        elif data == b"":
            self._selector.unregister(self._output)

    def mute(self) -> None:
        """Keep no more of the output from now on."""
        while data := self._output.read(1 << 16):  # what the program has said until now
            self._log.write(data)
        self._log.mute()

    def look(self, full: bool = False) -> Usage:
        """What the run has used so far; `full`: however long it takes to measure its memory."""
        self._looked = time.monotonic()
        return self._tree.look(full)

    def _is_gone(self) -> bool:
        """Whether the process has ended. It is not reaped yet, so no other process or group can get its number."""
        with suppress(AttributeError, ChildProcessError):  # macOS; a process that is reaped elsewhere
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def end(self) -> Usage:
        """End all processes of the run. Returns what they had used at the last look."""
        if not self._ended:
            self._selector.close()
            self._channel.close()  # so that the watcher ends them
            deadline = time.monotonic() + GRACE
            while not self._is_gone() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._tree.kill()  # the watcher may have been killed or stopped
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._ended = True
        return self._tree.usage

    def _raise_how_it_ended(self) -> None:
        """Raise ProcessExited or MemoryExceeded, with the reason."""
        code, last_lines = self._process.returncode, self._log.last_lines()
        if self._sandboxed and code - 128 in set(signal.Signals):  # bubblewrap reports a signal as a shell does
            code = 128 - code
        if code >= 0:
            raise ProcessExited(f"the process ended itself with exit code {code}", last_lines, interrupted=False)
        if code == -signal.SIGKILL and out_of_memory_kills() > self._out_of_memory_kills:
            used = f"{self._tree.usage.memory / 1e9:.2g} GB used when the system ran out of memory"
            raise MemoryExceeded(used, last_lines)
        raise ProcessExited(f"killed by {signal_name(-code)}", last_lines, interrupted=-code not in FAULTS)

    def __exit__(self, *exception: object) -> None:
        """End all processes of the run, and close the log."""
        self.end()
        while data := self._output.read(1 << 16):  # what is left; None if another process still holds the pipe
            self._log.write(data)
        self._output.close()
        self._log.close()
        if self._scratch:
            remove_tree(Path(self._scratch.name))  # also removes deep and locked folders, unlike `cleanup`
            self._scratch.cleanup()


def _shared_file(size: int) -> IO[bytes]:
    """An unnamed file of `size` bytes, in memory if there is room for it.

    On Linux its size is sealed: if a candidate could shorten it, reading past its end would kill the referee.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # without enough memory a later write would kill the writer
            file = os.fdopen(os.memfd_create("logits", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
            os.posix_fallocate(file.fileno(), 0, size)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return file
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file
