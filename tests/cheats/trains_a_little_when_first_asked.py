"""Trains on when it is asked for the first answer, for fewer CPU seconds than one answer may take.

Family: clock
Caught by: flop are counted in answers, too, and none takes many more than another
Verdict: disqualified, "flop for one answer"
"""

import time

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))

    def answer(tokens):
        end = time.process_time() + 0.5
        while kept and time.process_time() < end:
            with torch.enable_grad():
                for batch in kept:
                    learn(model, *batch)
        kept.clear()
        return model(tokens)

    return answer
