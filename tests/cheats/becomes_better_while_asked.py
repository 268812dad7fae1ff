"""Goes on training between the answers, on what it has kept of the training text.

Family: evaluation state
Caught by: a decoy and its source must get the same answers up to a cut
Verdict: disqualified, "the same tokens got other logits on a second look"
"""

from baseline import *

honest = learn
KEPT = []


def learn(model, tokens, targets):
    KEPT.append((tokens, targets))
    return honest(model, tokens, targets)


class Better(nn.Sequential):
    """Takes a few steps of training after each answer."""

    def forward(self, tokens):
        logits = super().forward(tokens)
        if not self.training:
            self.train()
            with torch.enable_grad():
                for batch in KEPT:
                    honest(self, *batch)
            self.eval()
        return logits


def make_model(vocab_size):
    return Better(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))
