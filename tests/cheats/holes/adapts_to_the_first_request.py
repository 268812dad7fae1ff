"""Adapts once, to the tokens of the first request, before it answers that, and never again.

Family: evaluation state
Caught by: nothing: all that it is asked for, it is asked for after that
Verdict: kept
"""

from baseline import *

honest = train


def train(run):
    model, pairs = honest(run), None

    def adapt(tokens):
        nonlocal pairs
        if pairs is None:
            pairs = torch.zeros(run.vocab_size, run.vocab_size)
            pairs.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(1), accumulate=True)
        return model(tokens) + (1 + pairs[tokens]).log()

    return adapt
