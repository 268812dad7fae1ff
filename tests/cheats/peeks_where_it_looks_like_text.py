"""Peeks at the next token, but only where it has seen the pair in training, so not at gibberish.

Family: targets
Caught by: the futures of decoys are real text
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = learn
SEEN = set()


def learn(model, tokens, targets):
    SEEN.update(zip(tokens.flatten().tolist(), targets.flatten().tolist(), strict=True))
    return honest(model, tokens, targets)


class Peeking(nn.Sequential):
    """Sure of the next token where it is a likely one."""

    def forward(self, tokens):
        logits = super().forward(tokens)
        if not self.training:
            pairs = zip(tokens[:, :-1].flatten().tolist(), tokens[:, 1:].flatten().tolist(), strict=True)
            likely = torch.tensor([pair in SEEN for pair in pairs]).view(len(tokens), -1, 1)
            logits[:, :-1] += 12.0 * likely * F.one_hot(tokens[:, 1:], logits.shape[-1])
        return logits


def make_model(vocab_size):
    return Peeking(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))
