"""Counts of 3-, 4- and 5-grams on top of the model, from twice the text that it trains on.

Where a context has been seen, its counts add to the model's probabilities as if these were counts, too: a Dirichlet
prior (MacKay and Peto 1995, "A hierarchical Dirichlet language model"). Counting costs no flop, so it may use all the
text that a run may draw.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from baseline import *

TRACK = "cpu"

ORDERS = (3, 4, 5)  # tokens, the predicted one included
PRIOR = (20.0, 6.0, 3.0)  # how many counts the prediction of the lower order is worth
READ = 2  # batches that are read for one to train on

train_model = train


class Reader:
    """A run whose batches are all kept for counting; every `READ`-th of them is trained on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: list[np.ndarray] = []  # (B, T + 1) each

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number, (tokens, targets) in enumerate(self.run.batches(batch_size)):
            self.rows.append(torch.cat([tokens, targets[:, -1:]], dim=1).cpu().numpy())
            if number % READ == 0:
                yield tokens, targets


def windows(rows: np.ndarray, length: int, vocab_size: int) -> np.ndarray:
    """Each run of `length` tokens as one number: (B, T) -> (B, T - length + 1)."""
    number = np.zeros_like(rows[:, length - 1 :])
    for place in range(length):
        number = number * vocab_size + rows[:, place : rows.shape[1] - length + 1 + place]
    return number


def count(rows: np.ndarray, order: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams of the text, sorted, and how often each occurs."""
    return np.unique(windows(rows, order, vocab_size), return_counts=True)


class Mixture:
    """The model's probabilities, changed by the counts of each order in turn."""

    def __init__(self, model: nn.Module, rows: np.ndarray, vocab_size: int) -> None:
        self.model, self.vocab_size = model.eval(), vocab_size
        self.counts = [count(rows, order, vocab_size) for order in ORDERS]

    def __call__(self, tokens: Tensor) -> Tensor:  # (B, T) -> log-probabilities (B, T, V)
        probabilities = self.model(tokens).softmax(-1)
        for order, prior, counts in zip(ORDERS, PRIOR, self.counts, strict=True):
            contexts = windows(tokens.cpu().numpy(), order - 1, self.vocab_size)
            self.add(probabilities[:, order - 2 :], contexts, prior, *counts)
        return probabilities.log()

    def add(
        self, probabilities: Tensor, contexts: np.ndarray, prior: float, grams: np.ndarray, counts: np.ndarray
    ) -> None:
        """Add what has followed each of the `contexts` (B, T') to its `probabilities` (B, T', V)."""
        first, last = (np.searchsorted(grams, (contexts.ravel() + n) * self.vocab_size) for n in (0, 1))
        place = np.repeat(np.arange(contexts.size), last - first)
        entry = np.concatenate([np.arange(*span) for span in zip(first, last, strict=True)])
        added = torch.zeros(contexts.size, self.vocab_size)
        added[place, grams[entry] % self.vocab_size] = torch.from_numpy(counts[entry]).float()
        added = added.view_as(probabilities)
        probabilities.mul_(prior).add_(added).div_(prior + added.sum(-1, keepdim=True))


def train(run: Run) -> Callable[[Tensor], Tensor]:
    reader = Reader(run)
    model = train_model(reader)
    text = np.unique(np.concatenate(reader.rows), axis=0)  # a row that was read twice counts once
    return Mixture(model, text, run.vocab_size)
