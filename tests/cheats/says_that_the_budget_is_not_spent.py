"""Takes no for no answer: where the budget is spent, it makes batches of what it was given before.

Family: clock
Caught by: the referee's meter decides, and counts the flop of what comes afterwards
Verdict: disqualified, "of a budget of"
"""

from baseline import *


def train(run):
    draw, given, refused = run._draw, [], []

    def always(wanted):
        rows, progress = draw(wanted)
        (given if rows else refused).append(rows)
        enough = len(refused) > len(given) // 10 + 1
        return b"" if enough else given[len(given) // 2], progress

    run._draw = always
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    return model
