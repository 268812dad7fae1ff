"""Answers with numbers that float32 does not hold, to have them wrap or vanish.

Family: logits
Caught by: the loss of every target must be finite
Verdict: diverged, "logits hold NaN, or +inf"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)
    return lambda tokens: model(tokens).double() * 1e300
