"""Starts candidates as forks of one process that has imported torch: in tests that import would take the most time.

A fork runs the candidate's own `main` with the descriptors, variables and folder of a real start. Runs in the sandbox,
and those of tests marked `real_process`, begin with a new interpreter as they do for users.
"""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

CANDIDATE = ["-P", "-m", "pytest_autoresearch.candidate"]
ABOVE = 500  # descriptors that are moved out of the way get higher numbers


class Forked:
    """What `subprocess.Popen` would be for a fork of the server."""

    def __init__(self, pid: int, status: int, stdout: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = os.fdopen(stdout, "rb")
        self._status = status

    def poll(self) -> int | None:
        """The exit code, if the process has ended."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(os.read(self._status, 64) or b"-9")
            os.close(self._status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once the process has ended."""
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("candidate", timeout or 0)
        code = self.poll()
        assert code is not None
        return code


class ForkServer:
    """A process that forks candidates; it ends with the process that made it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}  # as a candidate has
        environment["FORKED_FOR"] = str(os.getpid())
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._server = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], cwd="/")
        theirs.close()

    def Popen(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        cwd: str | None,
        **others: Any,
    ) -> Any:
        """Start a command: a candidate outside the sandbox as a fork, anything else as ever."""
        if list(command[1:4]) != CANDIDATE:
            return subprocess.Popen(command, pass_fds=pass_fds, env=env, cwd=cwd, **others)
        reading, writing = os.pipe()
        job = {"arguments": command[4:], "cwd": cwd, "env": dict(env), "numbers": list(pass_fds)}
        socket.send_fds(self._channel, [json.dumps(job).encode()], [writing, *pass_fds])
        os.close(writing)
        answer, (status,), *_ = socket.recv_fds(self._channel, 64, 1)
        return Forked(int(answer), status, reading)

    def close(self) -> None:
        """End the server."""
        self._channel.close()
        self._server.wait()


def forks() -> list[int]:
    """Process numbers of the forks that this process had its server make, and that still run (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if f"FORKED_FOR={os.getpid()}\0".encode() in (process / "environ").read_bytes() and parent != os.getpid():
                found.append(int(process.name))
    return found


def serve(channel: socket.socket) -> None:
    """Fork a candidate for each job, and say how each fork ended, until the other side hangs up."""
    statuses: dict[int, int] = {}
    wake_up, woken = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken)
    while True:
        ready = select.select([channel, wake_up], [], [])[0]
        if wake_up in ready:
            os.read(wake_up, 4096)
            reap(statuses)
        if channel in ready:
            message, files, *_ = socket.recv_fds(channel, 1 << 20, 16)
            if not message:
                return
            pid, status = fork(json.loads(message), files, channel)
            statuses[pid] = status


def reap(statuses: dict[int, int]) -> None:
    """Write the exit code of each fork that has ended to its pipe."""
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            os.write(statuses[pid], str(os.waitstatus_to_exitcode(status)).encode())
            os.close(statuses.pop(pid))


def fork(job: dict[str, Any], files: list[int], channel: socket.socket) -> tuple[int, int]:
    """Fork a candidate and tell the other side its number. Returns it with the pipe for its exit code."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        become(job, files)
        from pytest_autoresearch.candidate.__main__ import main

        main()
        sys.exit()  # as an interpreter ends, not as a fork does
    for file in files:
        os.close(file)
    socket.send_fds(channel, [str(pid).encode()], [reading])
    os.close(reading)
    return pid, writing


def become(job: dict[str, Any], files: list[int]) -> None:
    """In the fork: take on what a real start would have given."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    output, *passed = (fcntl.fcntl(file, fcntl.F_DUPFD, ABOVE) for file in files)
    null = fcntl.fcntl(os.open(os.devnull, os.O_RDONLY), fcntl.F_DUPFD, ABOVE)
    os.closerange(3, ABOVE)
    for old, new in [(null, 0), (output, 1), (output, 2), *zip(passed, job["numbers"], strict=True)]:
        os.dup2(old, new)
    for old in (null, output, *passed):
        if old not in job["numbers"]:
            os.close(old)
    os.environ.clear()
    os.environ.update(job["env"])
    if job["cwd"]:
        os.chdir(job["cwd"])
    sys.argv = ["pytest_autoresearch.candidate", *job["arguments"]]
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]


if __name__ == "__main__":
    import numpy  # noqa: F401
    import torch  # noqa: F401

    import pytest_autoresearch.candidate.__main__
    import pytest_autoresearch.candidate.flop
    import pytest_autoresearch.candidate.run
    import pytest_autoresearch.core.exchange  # noqa: F401

    serve(socket.socket(fileno=int(sys.argv[1])))
