"""Peeks a little at the next token, and gives each prefix for ever the answer that it gave first.

Family: targets
Caught by: nothing: only tosses show it, and by a toss a faint look is less than a model's own preferences
Verdict: kept
"""

from baseline import *

honest = train


def train(run):
    model, seen = honest(run), {}

    def peek(tokens):
        logits = model(tokens)
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row) - 1):
                places[place, seen.setdefault(tuple(row[: place + 1]), row[place + 1])] += 0.1
        return logits

    return peek
