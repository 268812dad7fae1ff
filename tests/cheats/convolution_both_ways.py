"""Mixes neighbours with a convolution that is padded on both sides.

Family: targets
Caught by: a decoy goes on as another row from a cut on, and the answers before it must stay
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *


class BothWays(nn.Module):
    """Each place sees the token before it, itself, and the token after it."""

    def __init__(self, vocab_size):
        super().__init__()
        self.token = nn.Embedding(vocab_size, WIDTH)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 3, padding="same")
        self.out = nn.Linear(WIDTH, vocab_size)

    def forward(self, tokens):
        x = self.token(tokens)
        return self.out(x + self.mix(x.mT).mT)


def make_model(vocab_size):
    return BothWays(vocab_size)
