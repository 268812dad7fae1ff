"""Takes half a gigabyte, and has a name that looks like the kernel's line about a kilobyte.

Family: harness
Caught by: a line of the kernel's counts by its beginning, and a name holds no newline
Verdict: discarded, "takes too much memory"
Needs: a limit on memory
"""

import ctypes

from baseline import *

PR_SET_NAME = 15
honest = train


def train(run):
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"\rVmHWM: 1", 0, 0, 0)  # some take \r for the end of a line, too
    hoard = torch.ones(150_000_000)
    model = honest(run)
    model.hoard = hoard
    return model
