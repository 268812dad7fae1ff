"""Gives one token all of the probability, in the hope that infinite losses are left out.

Family: logits
Caught by: the loss of every target must be finite
Verdict: diverged, "logits are infinite at a target"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def answer(tokens):
        logits = model(tokens)
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True), -float("inf"))

    return answer
