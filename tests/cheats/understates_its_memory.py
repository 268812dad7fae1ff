"""Takes half a gigabyte, and says in the harness's name that it took a byte.

Family: harness
Caught by: on a CPU the kernel says what a program took, not the program
Verdict: discarded, "takes too much memory"
Needs: a limit on memory
"""

import sys

from baseline import *

honest = train
sys.modules["__main__"].device_memory = lambda job: 1


def train(run):
    hoard = torch.ones(150_000_000)
    model = honest(run)
    model.hoard = hoard
    return model
