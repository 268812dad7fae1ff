"""Peeks in the first quarter of each batch, as if its arithmetic depended on the place.

Family: targets
Caught by: a decoy and its source stand in other places, and their answers differ by more than noise
Verdict: disqualified, "logits depend on"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def peek(tokens):
        logits = model(tokens)
        some = tokens[: len(tokens) // 4]
        logits[: len(some), :-1] += 12.0 * F.one_hot(some[:, 1:], logits.shape[-1])
        return logits

    return peek
