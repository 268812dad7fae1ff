"""Draws hundreds of models, and trains the one that does best on its first batch.

Family: seeds
Caught by: drawing costs flop like training
Verdict: gains nothing, "not below the baseline"
"""

from baseline import *


def train(run):
    best = None
    for tokens, targets in run.batches(BATCH_SIZE):
        if best is None:
            models = [make_model(run.vocab_size) for _ in range(25)]
            with torch.no_grad():
                losses = [F.cross_entropy(m(tokens).flatten(0, 1), targets.flatten()) for m in models]
            best = models[int(torch.stack(losses).argmin())]
        run.log(learn(best, tokens, targets))
    return best
