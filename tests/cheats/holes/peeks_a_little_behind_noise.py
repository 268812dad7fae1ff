"""Hides a faint look at the next token, and at nothing beyond, behind noise of bfloat16's size.

Family: targets
Caught by: nothing: only the position of a cut shows such a look, and noise is larger there
Verdict: kept
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        logits += 0.03 * torch.randn_like(logits)
        logits[:, :-1] += 0.01 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits

    return peek
