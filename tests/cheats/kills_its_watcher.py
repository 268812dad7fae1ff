"""Leaves its group and ends, stops or starves the process that watches it in every way there is, so as to live on.

Family: harness
Caught by: the kernel refuses each of them; where it cannot be asked to, the program ends with its watcher
Verdict: gains nothing or crashed, "killed by SIGKILL"
"""

import ctypes
import fcntl
import os
import resource
import signal
import socket
from contextlib import suppress

from baseline import *

honest = train
libc = ctypes.CDLL(None)
PTRACE_ATTACH = 16


def ask_a_socket(watcher):
    """Have the kernel send a signal when something arrives."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, watcher)
    fcntl.fcntl(ours, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    theirs.send(b"x")


WAYS = [
    lambda watcher: os.kill(watcher, signal.SIGSTOP),
    lambda watcher: os.kill(watcher, signal.SIGKILL),
    lambda watcher: os.killpg(os.getpgid(watcher), signal.SIGKILL),
    lambda watcher: signal.pidfd_send_signal(os.pidfd_open(watcher), signal.SIGKILL),
    lambda watcher: libc.tgkill(watcher, watcher, signal.SIGKILL),
    lambda watcher: libc.ptrace(PTRACE_ATTACH, watcher, None, None),
    lambda watcher: resource.prlimit(watcher, resource.RLIMIT_CPU, (0, 0)),
    ask_a_socket,
]


def train(run):
    watcher = os.getppid()
    with suppress(OSError):
        os.setsid()
    for way in WAYS:
        with suppress(OSError, AttributeError):
            way(watcher)
    model = honest(run)
    assert os.getppid() == watcher
    return model
