"""The process between a referee and its program: it ends the program and all that the program started."""

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
    """Where memory runs out, have the system end this process and its children first (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def leave_keyring() -> None:
    """Join a new session keyring (Linux): what a run left in the user's, the next run would find."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine) if sys.platform == "linux" else None
    if number:
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def watch(channel: socket.socket) -> None:
    """Return in a child process, which goes on as the program; this process watches it.

    Once the referee's end of the socket is closed, or the child has ended, this process ends the child and everything
    that it started, and exits as the child did. It is a process and no thread, because a thread would wait for a
    program that holds the interpreter lock. On Linux orphans become children of the watcher, also those that have left
    the process group.
    """
    if not hasattr(os, "fork"):
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        return
    for stream in (0, 1, 2):  # the log ends when the program ends, not when its watcher does
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
