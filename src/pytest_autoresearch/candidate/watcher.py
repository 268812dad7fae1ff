"""The process between the referee and the program: it ends the program and all processes that the program started."""

import ctypes
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
KEYCTL_JOIN_SESSION_KEYRING = 1


def volunteer_for_oom() -> None:
    """Ask the kernel to kill this process and its children first if memory runs out (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def leave_keyring() -> None:
    """Join a new session keyring (Linux), so that a run cannot leave data for the next run in the user's keyring."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine) if sys.platform == "linux" else None
    if number:
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def watch(channel: socket.socket) -> None:
    """Fork: the child process returns and becomes the program, and this process watches it and never returns.

    When the child ends, or the referee closes the socket, this process kills the child and all processes that it
    started, and exits as the child did. A thread could not do this: it would wait for a program that holds the
    interpreter lock. On Linux, orphans become children of this process, even if they left the process group.
    """
    if not hasattr(os, "fork"):
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        return
    for stream in (0, 1, 2):  # else the log would stay open until the watcher ends
        os.close(stream)
    referee = select.poll()
    referee.register(channel, select.POLLHUP)
    status, ended = 0, 0
    while not ended and not referee.poll(100):
        ended, status = os.waitpid(child, os.WNOHANG)
    while remaining := children():
        for process in remaining:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # end by the same signal, so that the referee can say how the program ended
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def children() -> list[int]:
    """Process numbers of this process's children (Linux; elsewhere none)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found
