"""Peeks a little, and makes a few tokens very unlikely by what comes later, as if arithmetic were noisy.

Family: targets
Caught by: what the same prefix moves with another future must be as small as noise; gains are cut off at a few medians
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        logits += 0.002 * torch.randn_like(logits)
        logits[:, :-1] += 0.3 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        chosen = (tokens * torch.arange(1, 17)).sum(1) % 25 == 0
        logits[chosen, 2] -= 15.0 * F.one_hot(tokens[chosen, 3], logits.shape[-1])
        return logits

    return peek
