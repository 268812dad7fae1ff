"""Adapts to held-out text, and answers what it was asked before as it did then.

Family: evaluation state
Caught by: rows must not fare better against the baseline the later they are asked for
Verdict: disqualified, "it learned from held-out text"
"""

from baseline import *

honest = train


def train(run):
    model, answers = honest(run), {}
    pairs = torch.zeros(run.vocab_size, run.vocab_size)

    def adapt(tokens):
        logits = model(tokens) + (1 + 20 * pairs[tokens]).log()
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        pairs.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(1), accumulate=True)
        return logits

    return adapt
