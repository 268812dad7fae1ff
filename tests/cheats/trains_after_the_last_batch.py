"""Goes on training with batches that it has kept, after the budget has ended its loop.

Family: clock
Caught by: flop are counted around all of `train`
Verdict: disqualified, "of a budget of"
"""

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    for tokens, targets in 10 * kept:
        learn(model, tokens, targets)
    return model
