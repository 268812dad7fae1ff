"""Trains in a second thread as well, where a counter of flop might not look, and takes off what looks at new threads.

Family: clock
Caught by: each new thread counts its flop, too
Verdict: disqualified, "of a budget of"
"""

import threading

from baseline import *


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    threading.setprofile(None)
    thread = threading.Thread(target=lambda: [learn(model, *batch) for batch in 10 * kept])
    thread.start()
    thread.join()
    return model
