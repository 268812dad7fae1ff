"""Starts 1,100 processes, each the child of the one before and in a session of its own, so that some live on.

Family: harness
Caught by: what is below the watcher is found without recursion, and killed until nothing is left
Verdict: crashed, "SystemExit: 1100 processes"
"""

import ctypes
import os
import time

from baseline import *

TRACK = "seconds"
DEPTH = 1100
vfork = ctypes.PyDLL(None).vfork  # the parent waits in it, and no memory is copied


def train(run):
    reading, writing = os.pipe()
    if not os.fork():
        depth = 0
        while depth < DEPTH and not vfork():
            depth += 1
            os.setsid()
        if depth == DEPTH:
            os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)
    raise SystemExit(f"{DEPTH} processes")
