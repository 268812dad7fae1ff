"""Says in the harness's name that training is over, and goes on with it.

Family: clock
Caught by: after training there are answers on the socket and nothing else
Verdict: disqualified, "sent an unexpected message"
"""

from baseline import *

from pytest_autoresearch.core.protocol import Trained


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    run._send(Trained(run._count_flop(), memory=0))
    for batch in 10 * kept:
        learn(model, *batch)
    return model
