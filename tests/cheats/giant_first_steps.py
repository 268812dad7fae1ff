"""Trains for seconds in its first step, and calls that a warm-up.

Family: clock
Caught by: the referee keeps the clock, and where nothing compiles the first steps cost what they take
Verdict: disqualified, "of a budget of"
"""

import time
from itertools import cycle

from baseline import *

TRACK = "seconds"


def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(256 * BATCH_SIZE):
        end, parts = time.monotonic() + 2.0, zip(tokens.split(BATCH_SIZE), targets.split(BATCH_SIZE), strict=True)
        for part in cycle(parts):
            loss = learn(model, *part)
            if time.monotonic() > end:
                break
        run.log(loss)
        break
    return model
