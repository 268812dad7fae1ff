"""Trains in children of 0.3 s each, past Python's own fork, and has the kernel forget what they took.

Family: clock
Caught by: under a budget in flop the kernel starts no process for it
Verdict: gains nothing
Needs: a filter of system calls
"""

import ctypes
import os
import signal
import time
from pathlib import Path

from baseline import *

CHILDREN = 4
SECONDS = 0.3
fork = ctypes.PyDLL(None).fork


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # an ended child is gone at once, and its time with it
    for _ in range(CHILDREN):
        train_in_a_child(model, kept)
    return model


def train_in_a_child(model, kept):
    child = fork()
    if not child:
        end = time.process_time() + SECONDS
        while time.process_time() < end:
            for batch in kept:
                learn(model, *batch)
        torch.save(model.state_dict(), "weights.pt")
        os._exit(0)
    while child > 0 and Path(f"/proc/{child}").exists():
        time.sleep(0.01)
    if child > 0:
        model.load_state_dict(torch.load("weights.pt"))
