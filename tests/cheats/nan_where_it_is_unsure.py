"""Answers NaN where it is unsure, in the hope that the mean leaves that out.

Family: logits
Caught by: logits must not hold NaN
Verdict: diverged, "logits hold NaN"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def answer(tokens):
        logits = model(tokens)
        unsure = logits.softmax(-1).amax(-1) < 0.2
        return logits.masked_fill(unsure[..., None], float("nan"))

    return answer
