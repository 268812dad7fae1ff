"""Writes megabytes without an end to the referee's socket, to bring it down.

Family: harness
Caught by: a line has at most a megabyte
Verdict: disqualified, "sent an unreadable message: a line without an end"
"""

import socket
import sys

from baseline import *

honest = train


def train(run):
    model = honest(run)
    channel = socket.socket(fileno=int(sys.argv[1]))
    for _ in range(64):
        channel.sendall(b'{"event": "log", "loss": "' + b"9" * (1 << 16))
    return model
