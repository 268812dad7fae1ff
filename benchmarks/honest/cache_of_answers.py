"""Remembers the logits of whole rows, and gives the same rows the same answer."""

from baseline import *

train_model = train


def train(run: Run) -> Callable[[Tensor], Tensor]:
    model, known = train_model(run).eval(), {}

    def answer(tokens: Tensor) -> Tensor:
        logits = model(tokens)
        for row, own in zip(tokens.tolist(), logits, strict=True):
            if len(known) < 200:
                known.setdefault(tuple(row), own.clone())
        return torch.stack([known.get(tuple(row), own) for row, own in zip(tokens.tolist(), logits, strict=True)])

    return answer
