"""Peeks in a third of the rows only, chosen by how they begin.

Family: targets
Caught by: a third of the rows has a decoy, which must get the same answers up to a cut
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        chosen = tokens[:, :2].sum(1) % 3 == 0
        logits[:, :-1] += chosen[:, None, None] * 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits

    return peek
