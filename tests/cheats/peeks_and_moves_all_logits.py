"""Peeks, and adds a million to all logits, beside which no change of them looks large.

Family: targets
Caught by: log-probabilities are compared, not logits
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        logits[:, :-1] += 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits + 1e6

    return peek
