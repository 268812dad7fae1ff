"""Fine-tunes after its loop on batches that it has kept, for no more than a twentieth of the budget.

Family: clock
Caught by: what comes after the last batch may cost half of the largest step
Verdict: disqualified, "of it after the last batch"
"""

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    for tokens, targets in kept[: len(kept) // 20 + 1]:
        learn(model, tokens, targets)
    return model
