"""Peeks, and gives each prefix for ever the answer that it gave first, so that second looks agree.

Family: targets
Caught by: decoys: tokens put in by toss, in rows that have not been asked for before, are found likelier
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model, answers = honest(run), {}

    def peek(tokens):
        logits = model(tokens)
        logits[:, :-1] += 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        return logits

    return peek
