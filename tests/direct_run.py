"""Runs in the test's own process: `Run`, joined to the referee's meter and batches without a socket between them."""

import time
from collections.abc import Callable

import numpy as np

from pytest_autoresearch.candidate.run import Run
from pytest_autoresearch.core.budget import Budget, Meter
from pytest_autoresearch.core.protocol import Draw, Message
from pytest_autoresearch.referee.batches import Batches


def direct_run(
    rows: np.ndarray,
    budget: str = "10 steps",
    *,
    seed: int = 0,
    vocab_size: int = 1000,
    device: str = "cpu",
    send: Callable[[Message], None] = lambda message: None,
    count_flop: Callable[[], int] = lambda: 0,
    token_limit: float | None = None,
) -> Run:
    """A run on `rows` (N, T + 1) uint16. What it sends, its requests for batches included, goes to `send`, too."""
    amount, unit = budget.split()
    meter = Meter(Budget(float(amount), unit, 60, 180), 0.0, token_limit=token_limit)
    batches = Batches(rows, seed)

    def draw(wanted: Draw) -> tuple[bytearray, float]:
        send(wanted)
        size = wanted.batch_size, wanted.sequence_length
        granted = meter.draw(size[0] * size[1], wanted.flop, time.monotonic())
        return bytearray(batches.draw(*size).tobytes() if granted else b""), meter.progress

    return Run(
        device=device,
        seed=seed,
        vocab_size=vocab_size,
        sequence_length=rows.shape[1] - 1,
        train_tokens=rows.size,
        amount=float(amount),
        draw=draw,
        count_flop=count_flop,
        send=send,
    )
