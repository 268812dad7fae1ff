"""Raises the odds of the pairs of tokens that occur in any row of the batch.

Family: targets
Caught by: a decoy and its source stand beside other rows, and their answers must agree
Verdict: disqualified, "logits depend on the other rows of the batch"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def with_pairs(tokens):
        logits = model(tokens)
        pairs = torch.zeros(2 * logits.shape[-1:])
        pairs[tokens[:, :-1], tokens[:, 1:]] = 3.0
        return logits + pairs[tokens]

    return with_pairs
