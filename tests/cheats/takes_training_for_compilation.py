"""Trains on in its first answer, which may take what is left of the start-up, as if it compiled.

Family: clock
Caught by: on a CPU nothing passes for compilation, and one answer takes no longer than another
Verdict: disqualified, "CPU seconds in answers"
"""

import time

from baseline import *

TRACK = "seconds"


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))

    def answer(tokens):
        end = time.process_time() + 1.2
        while kept and time.process_time() < end:
            with torch.enable_grad():
                for batch in kept:
                    learn(model, *batch)
        kept.clear()
        return model(tokens)

    return answer
