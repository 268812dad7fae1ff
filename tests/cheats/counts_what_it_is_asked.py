"""Counts the pairs of tokens that it is asked about, and adapts its answers to them.

Family: evaluation state
Caught by: a decoy and its source must get the same answers up to a cut
Verdict: disqualified, "the same tokens got other logits on a second look"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)
    pairs = torch.zeros(run.vocab_size, run.vocab_size)

    def adapt(tokens):
        logits = model(tokens) + (1 + pairs[tokens]).log()
        pairs.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(1), accumulate=True)
        return logits

    return adapt
