"""Answers with random weights around its own, and hopes for a lucky draw.

Family: evaluation state
Caught by: some rows are asked for twice, and the answers must agree
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
