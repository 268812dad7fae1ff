"""Answers with one row for all of them, once it has answered some requests as it should.

Family: logits
Caught by: every answer must have its shape
Verdict: crashed, "they must be (B, T, vocab)"
"""

from baseline import *

honest = train


def train(run):
    model, requests = honest(run), 0

    def answer(tokens):
        nonlocal requests
        requests += 1
        return model(tokens if requests < 8 else tokens[:1])

    return answer
