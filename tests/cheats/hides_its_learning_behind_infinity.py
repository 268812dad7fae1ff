"""Learns from what it is asked, and rules one token out in its first answers, so that no comparison can be made.

Family: logits
Caught by: an answer has to be finite where it matters, a decoy's like any other
Verdict: diverged, "logits are infinite at a target"
"""

from baseline import *

honest = train


def train(run):
    model, counts, requests = honest(run), torch.zeros(run.vocab_size), 0

    def answer(tokens):
        nonlocal requests
        requests += 1
        logits = model(tokens) + counts.log1p()
        counts.index_add_(0, tokens.flatten(), torch.ones(tokens.numel()))
        if requests <= 4:
            logits[..., 100:] = -float("inf")
        return logits

    return answer
