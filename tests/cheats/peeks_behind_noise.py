"""Looks at the next token a little, and adds noise of bfloat16's size, so that no answer is like another.

Family: targets
Caught by: over all positions before a cut, the true future must not gain on a foreign one
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        logits += 0.02 * torch.randn_like(logits)
        logits[:, :-1] += 0.1 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits

    return peek
