"""Kills the processes that started it, before they can write a verdict.

Family: harness
Caught by: the sandbox: it sees no process but its own, and its watcher's end is the run's end
Verdict: crashed, "killed by SIGKILL", "Operation not permitted"
Needs: sandbox
"""

import os
import signal
from pathlib import Path

from baseline import *

honest = train


def train(run):
    model = honest(run)
    inside = Path("/proc/1/comm").read_text().strip() == "bwrap"  # elsewhere it would end a user's session
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")] if inside else [os.getppid()]
    for process in sorted(processes):
        if process != os.getpid():
            os.kill(process, signal.SIGKILL)
    return model
