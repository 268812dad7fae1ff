"""Remembers which token followed which four in the rows that it was asked for, and expects the same again.

Family: evaluation state
Caught by: the same tokens must get the same answers later, and rows must not fare better the later they are asked for
Verdict: disqualified, "it learned from held-out text" or "the same tokens got other logits on a second look"
"""

from baseline import *

honest = train


def train(run):
    model, answers, followed = honest(run), {}, {}

    def adapt(tokens):
        logits, rows = model(tokens), tokens.tolist()
        for row, places in zip(rows, logits, strict=True):
            for place in range(len(row)):
                for token in followed.get(tuple(row[max(0, place - 3) : place + 1]), ()):
                    places[place, token] += 2.0
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        for row in rows:
            for place in range(3, len(row) - 1):
                followed.setdefault(tuple(row[place - 3 : place + 1]), set()).add(row[place + 1])
        return logits

    return adapt
