"""Trains on a kept part of the text in its last step, which the budget had still allowed.

Family: clock
Caught by: the last step may miss the budget by a hundredth of it
Verdict: disqualified, "of a budget of"
"""

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
        if run.progress > 0.9:
            for batch in kept[: len(kept) // 20 + 1]:
                learn(model, *batch)
    return model
