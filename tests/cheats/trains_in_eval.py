"""Trains when the harness calls `model.eval()`, after `train` and before the first answer.

Family: clock
Caught by: flop are counted until the harness has done all that it does with the model
Verdict: disqualified, "of a budget of"
"""

from baseline import *

KEPT = []


class Late(nn.Sequential):
    """Has its work to do when it is told that training is over."""

    def eval(self):
        for batch in 10 * KEPT:
            learn(self, *batch)
        return super().eval()


def make_model(vocab_size):
    return Late(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))


def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        KEPT.append((tokens, targets))
    return model
