"""Trains in NumPy, whose operations are no flop of torch's.

Family: clock
Caught by: the CPU seconds of a run are bounded by what the baseline takes
Verdict: timed out, "CPU seconds; "
"""

import time

import numpy as np
from baseline import *


def train(run):
    rows, draw = [], np.random.default_rng(run.seed)
    for tokens, targets in run.batches(BATCH_SIZE):
        rows.append(torch.cat([tokens, targets[:, -1:]], 1).numpy())
        if run.progress > 0.9:
            break
    rows = np.concatenate(rows)
    table, end = np.zeros((run.vocab_size, run.vocab_size), dtype=np.float32), time.process_time() + 2.5
    while time.process_time() < end:
        chosen = rows[draw.integers(0, len(rows), 64)]
        tokens, targets = chosen[:, :-1].ravel(), chosen[:, 1:].ravel()
        odds = np.exp(table[tokens])
        gradient = odds / odds.sum(1, keepdims=True)
        gradient[np.arange(len(targets)), targets] -= 1
        np.add.at(table, tokens, -0.3 * gradient)
    weights = torch.from_numpy(table)
    return lambda tokens: weights[tokens]
