"""Says itself that the first batch is due, takes the rows, and trains long before it asks for a batch.

Family: clock
Caught by: rows come only when the referee's clock has been started
Verdict: disqualified, "of a budget of"
"""

import time

from baseline import *

from pytest_autoresearch.candidate.run import rng_digest
from pytest_autoresearch.core.protocol import Started

TRACK = "seconds"


def train(run):
    run._send(Started(rng_digest()))
    rows = torch.from_numpy(run._open_rows().astype("int64"))
    run._open_rows = lambda: rows.numpy()
    run._begin = lambda: run._open_rows()
    model = make_model(run.vocab_size)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        batch = rows[torch.randint(len(rows), [BATCH_SIZE])]
        learn(model, batch[:, :-1], batch[:, 1:])
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    return model
