"""Trains in the `__del__` of a local variable, when `train` is over.

Family: clock
Caught by: flop are counted around all of `train`
Verdict: disqualified, "of a budget of"
"""

from baseline import *


class Late:
    """Has its work to do when it goes."""

    def __init__(self, model):
        self.model, self.kept = model, []

    def __del__(self):
        for batch in 10 * self.kept:
            learn(self.model, *batch)


def train(run):
    model = make_model(run.vocab_size)
    late = Late(model)
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        late.kept.append((tokens, targets))
    return model
