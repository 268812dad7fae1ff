"""Trains ten times as long with products that torch's own counter of flop knows nothing of.

Family: clock
Caught by: every operation that contracts has a formula, and what operations written in Python call is counted
Verdict: disqualified, "of a budget of"
"""

from baseline import *


@torch.library.custom_op("cheat::product", mutates_args=())
def product_of_its_own(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b


def product(a, b):
    """a @ b, each half in another way."""
    half = a.shape[1] // 2
    rest = product_of_its_own(a[:, :half], b[:half])
    return torch.addbmm(rest, a[None, :, half:], b[None, half:])


@torch.no_grad()
def learn_again(model, tokens, targets):
    """The same step as `learn`, with the gradients by hand."""
    embedding, linear = model
    tokens, targets = tokens.flatten(), targets.flatten()
    x = embedding.weight[tokens]
    gradient = (product(x, linear.weight.T) + linear.bias).softmax(-1)
    gradient[torch.arange(len(targets)), targets] -= 1
    gradient *= LEARNING_RATE / len(targets)
    embedding.weight.index_add_(0, tokens, product(gradient, linear.weight), alpha=-1)
    linear.weight -= product(gradient.T, x)
    linear.bias -= gradient.sum(0)


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    for batch in 10 * kept:
        learn_again(model, *batch)
    return model
