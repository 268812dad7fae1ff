"""Says itself that the first batch is due, takes a batch, and trains for long before it works on its batches.

Family: clock
Caught by: a batch comes only when the referee's clock has been started
Verdict: disqualified, "of a budget of"
"""

import time

import numpy as np
from baseline import *

from pytest_autoresearch.candidate.run import rng_digest
from pytest_autoresearch.core.protocol import Draw, Started

TRACK = "seconds"


def train(run):
    run._send(Started(rng_digest(run.device)))
    rows, _ = run._draw(Draw(256, run.sequence_length, 0))
    rows = torch.from_numpy(np.frombuffer(rows, "u2").astype("int64")).view(256, -1)
    run._started = True
    model = make_model(run.vocab_size)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        batch = rows[torch.randint(len(rows), [BATCH_SIZE])]
        learn(model, batch[:, :-1], batch[:, 1:])
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    return model
