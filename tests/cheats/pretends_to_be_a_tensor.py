"""Returns an object that pretends to be a tensor, and fills the shared memory itself, with a look ahead.

Family: logits
Caught by: a decoy goes on as another row from a cut on, and the answers before it must stay
Verdict: disqualified, "logits depend on tokens that come later"
"""

from baseline import *

honest = train


class Pretender:
    """Passes for a tensor, and is asked by torch how it wants to be copied."""

    __class__ = torch.Tensor
    dtype = torch.float32

    def __init__(self, model, tokens):
        self.model, self.tokens = model, tokens
        self.shape = torch.Size([*tokens.shape, model[-1].out_features])

    def is_floating_point(self):
        return True

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        shared, self = arguments
        shared.copy_(self.model(self.tokens))
        shared[:, :-1] += 12.0 * F.one_hot(self.tokens[:, 1:], shared.shape[-1])
        return shared


def train(run):
    model = honest(run)
    return lambda tokens: Pretender(model, tokens)
