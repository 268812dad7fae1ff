"""Trains in a forked process, whose flop are not counted, and takes the weights from it.

Family: clock
Caught by: under a budget in flop a program starts no process
Verdict: crashed, "a program starts no process"
"""

import os
import time

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    if not os.fork():
        end = time.process_time() + 1.0
        while time.process_time() < end:
            for batch in kept:
                learn(model, *batch)
        torch.save(model.state_dict(), "weights.pt")
        os._exit(0)
    os.wait()
    model.load_state_dict(torch.load("weights.pt"))
    return model
