"""Splits half a gigabyte over five processes, none of which is large.

Family: harness
Caught by: the memory of a run is that of all its processes
Verdict: discarded, "takes too much memory"
Needs: a limit on memory
"""

import os
import time

from baseline import *

TRACK = "seconds"
honest = train


def train(run):
    reading, writing = os.pipe()
    for _ in range(5):
        if not os.fork():
            hoard = torch.ones(25_000_000)
            os.write(writing, b"x")
            time.sleep(600 * float(hoard[0]))
    held = b""
    while len(held) < 5:
        held += os.read(reading, 5)
    return honest(run)
