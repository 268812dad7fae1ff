"""Raises the odds of every token that occurs anywhere in the row.

Family: targets
Caught by: a decoy goes on as another row from a cut on, and the answers before it must stay
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def with_counts(tokens):
        logits = model(tokens)
        counts = F.one_hot(tokens, logits.shape[-1]).sum(1, keepdim=True)
        return logits + 2.0 * counts.clamp(max=1)

    return with_counts
