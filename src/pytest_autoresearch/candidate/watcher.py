"""The process between the referee and the program: it ends the program and all processes that the program started."""

import ctypes
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from pytest_autoresearch.core.processes import adopt_orphans, die_with_parent, end_children, reap

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
    """Fork. The child process returns and becomes the program; this process watches it and never returns.

    When the child ends, or the referee closes the socket, this process kills the child and all processes that it
    started, and exits as the child did. A thread could not do this: it would wait for a program that holds the
    interpreter lock. On Linux, orphans become children of this process, whatever group or session they are in.
    """
    if not hasattr(os, "fork"):
        return
    adopt_orphans()
    child = os.fork()
    if not child:
        os.setsid()  # what a program sends to its own group does not reach the watcher
        die_with_parent()
        return
    for stream in (0, 1, 2):  # else the log would stay open until the watcher ends
        os.close(stream)
    referee = select.poll()
    referee.register(channel, select.POLLHUP)
    codes: dict[int, int] = {}
    while child not in codes and not referee.poll(100):
        reap(codes)
    code = codes.get(child, 0)
    end_children(child)
    if code < 0:  # end by the same signal, so that the referee can say how the program ended
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)
