"""Shifts its input by one too few, so that the token to predict is the one it looks at.

Family: targets
Caught by: a decoy goes on as another row from a cut on, and the answers before it must stay
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *


class Shifted(nn.Module):
    """A bigram model that is given the next token in place of the current one."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens.roll(-1, 1))


def make_model(vocab_size):
    return Shifted(nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size)))
