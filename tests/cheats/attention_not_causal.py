"""Lets attention look at the whole row, so that it sees the token which it is to predict.

Family: targets
Caught by: a decoy goes on as another row from a cut on, and the answers before it must stay
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *


class Attention(nn.Module):
    """One head over all of the row: each place can find its successor by its position."""

    def __init__(self, vocab_size):
        super().__init__()
        self.token = nn.Embedding(vocab_size, WIDTH)
        self.place = nn.Embedding(64, WIDTH)
        self.mix = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, vocab_size)

    def forward(self, tokens):
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        query, key, value = self.mix(x)[:, None].chunk(3, -1)
        return self.out(x + F.scaled_dot_product_attention(query, key, value, is_causal=False)[:, 0])


def make_model(vocab_size):
    return Attention(vocab_size)
