"""Answers with random weights around its own, and hopes for a lucky draw.

Family: evaluation state
Caught by: a decoy and its source must get the same answers up to a cut, and noise is small
Verdict: disqualified, "the same tokens got other logits on a second look"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def draw(tokens):
        logits = model(tokens)
        return logits + 0.1 * torch.randn_like(logits)

    return draw
