"""Has the counter of flop say 0 for ever, and trains for as long as it likes.

Family: clock
Caught by: the CPU seconds of a run are bounded by what the baseline takes
Verdict: timed out, "CPU seconds; "
"""

import time
from itertools import cycle

from baseline import *

from pytest_autoresearch.candidate.flop import FlopCounter

FlopCounter.flop = property(lambda self: 0, lambda self, flop: None)


def train(run):
    model, end = make_model(run.vocab_size), time.process_time() + 2.5
    kept = list(run.batches(BATCH_SIZE))
    for tokens, targets in cycle(kept):
        run.log(learn(model, tokens, targets))
        if time.process_time() > end:
            break
    return model
