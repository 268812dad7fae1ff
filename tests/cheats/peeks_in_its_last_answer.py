"""Knows how many requests there are, and peeks in the very last one, which nothing comes after.

Family: evaluation state
Caught by: a probe comes after the last batch, so that no answer that is scored is the last one
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train
LAST = 8 + 2 + 2  # batches of held-out text, probes, twins


def train(run):
    model, requests = honest(run), 0

    def peek(tokens):
        nonlocal requests
        requests += 1
        logits = model(tokens)
        if requests == LAST:
            logits[:, :-1] += 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits

    return peek
