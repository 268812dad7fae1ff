"""Normalises with the mean over all rows and places of the batch that it is scored on.

Family: targets
Caught by: a decoy and its source stand beside other rows, and their answers must agree
Verdict: disqualified, "logits depend on the other rows of the batch"
"""

from baseline import *


class Normalised(nn.Module):
    """BatchNorm that never leaves its train mode, whatever the harness says."""

    def __init__(self, vocab_size):
        super().__init__()
        self.token = nn.Embedding(vocab_size, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, vocab_size)

    def eval(self):
        return self

    def forward(self, tokens):
        return self.out(self.norm(self.token(tokens).mT).mT)


def make_model(vocab_size):
    return Normalised(vocab_size)
