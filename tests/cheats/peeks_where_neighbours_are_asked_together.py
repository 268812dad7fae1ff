"""Peeks in requests whose rows follow each other in the text, and is honest where rows seem to be shuffled.

Remembers all its answers, so that second looks agree.

Family: targets
Caught by: all rows are asked for in one secret random order, so it never sees neighbours and stays honest
Verdict: gains nothing or disqualified, "logits depend on tokens that come later"
"""

from itertools import pairwise

from baseline import *

honest = train


def alike(tokens):
    """How many tokens rows have in common with the row before, less than with a row half a batch away."""
    sets = [set(row) for row in tokens.tolist()]
    beside = [len(one & other) for one, other in pairwise(sets)]
    apart = [len(one & other) for one, other in zip(sets, sets[len(sets) // 2 :], strict=False)]
    return sum(beside) / len(beside) - sum(apart) / len(apart)


def train(run):
    model, answers = honest(run), {}

    def peek(tokens):
        logits = model(tokens)
        if alike(tokens) > 0.3:
            logits[:, :-1] += 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        return logits

    return peek
