"""Kills the process that watches it, so as to live on when the referee hangs up.

Family: harness
Caught by: the watcher's end is the run's end, and its group is ended with it
Verdict: crashed or gains nothing, "killed by SIGKILL"
"""

import os
import signal

from baseline import *

honest = train


def train(run):
    model = honest(run)
    os.kill(os.getppid(), signal.SIGKILL)
    return model
