"""Is honest for the first half of the requests, and peeks when the probes seem to be over.

Family: evaluation state
Caught by: a decoy and its source stand in two requests, and their answers must agree
Verdict: disqualified, "the same tokens got other logits" or "logits depend on"
"""

from baseline import *

honest = train


def train(run):
    model, requests = honest(run), 0

    def peek(tokens):
        nonlocal requests
        requests += 1
        logits = model(tokens)
        if requests > 5:
            logits[:, :-1] += 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits

    return peek
