"""Trains on, for many times its budget, when it is asked for the first answer.

Family: clock
Caught by: what all answers take beyond 4 times the usual one is limited
Verdict: disqualified, "CPU seconds in answers"
"""

import time

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))

    def answer(tokens):
        end = time.process_time() + 1.5
        while kept and time.process_time() < end:
            with torch.enable_grad():
                for batch in kept:
                    learn(model, *batch)
        kept.clear()
        return model(tokens)

    return answer
