"""Knows how many requests there are, and peeks in the very last one, which nothing comes after.

Family: evaluation state
Caught by: its rows are the sources of earlier decoys, and must get the same answers up to the cut
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train
LAST = 11  # 512 rows and 170 decoys or more, by 64


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
