"""Overwrites the tokens in the memory that it shares with the referee by ones that are easy to predict.

Family: harness
Caught by: the referee scores against a copy of its own
Verdict: gains nothing
"""

import sys

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def answer(tokens):
        logits = model(tokens)
        exchange = sys._getframe(2).f_locals["exchange"]
        exchange.tokens.copy_(logits.argmax(-1))
        return logits

    return answer
