"""Bits per byte of a served model on held-out text. Only the referee computes this score."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.referee.decoys import Decoys
from pytest_autoresearch.referee.losses import nats
from pytest_autoresearch.referee.order import Integers, Order
from pytest_autoresearch.referee.probes import Pairs, Tosses, check_growth

Predict = Callable[[Tensor], Tensor]
"""Tokens (B, T) int64 → logits (B, T, vocab) float32."""


@dataclass(frozen=True)
class Score:
    """`row_nats` (N,) float64 is the loss of each held-out row, and `val_bpb` is Σ nats / (ln 2 · Σ bytes).

    Special tokens are in neither sum. The sums are in the order of the rows, whatever the order of the requests.
    """

    val_bpb: float
    row_nats: Tensor


def score(
    predict: Predict,
    rows: np.ndarray,
    token_bytes: np.ndarray,
    batch_size: int,
    draw: np.random.Generator,
    baseline_nats: Sequence[float] | None = None,
    on_batch: Callable[[float], None] = lambda share: None,
) -> Score:
    """The score of `predict` on held-out rows (N, T + 1).

    `token_bytes` (vocab,) holds the length of each token's raw bytes, 0 for a special token. Each row is asked for
    once, in an order from `draw`, with decoys among the rows. Every request is a whole batch, because another shape may
    need another kernel. `baseline_nats` (N,) is the loss of the rows under the baseline, for the test of learning.
    RuleBroken says which rule the answers break; NotFinite says why logits cannot be scored. `on_batch` is called with
    the share that is done, 0 to 1.
    """
    count, lengths = len(rows), torch.from_numpy(token_bytes.astype(np.int64))
    order = Order.draw(count, batch_size, draw)
    decoys = Decoys.make(rows, order.sources(draw), draw)
    pairs, tosses = Pairs(decoys, rows, order, draw), Tosses(decoys, count)
    row_nats = torch.zeros(count, dtype=torch.float64)

    def look(text: Integers) -> tuple[Tensor, Tensor]:
        tokens = torch.from_numpy(text)
        logits = predict(tokens[:, :-1])
        return logits, nats(logits, tokens[:, 1:], lengths[tokens[:, 1:]] > 0)

    for number, items in enumerate(order.items):
        logits, loss = look(decoys.text(rows, items))
        held_out = items < count
        row_nats[items[held_out]] = loss.sum(1)[held_out]
        pairs.note(items, logits, loss)
        tosses.note(items, logits)
        on_batch((number + 1) / len(order.items))
    pairs.check(look, draw)
    tosses.check()
    check_growth(row_nats, order.moment, baseline_nats)
    total_bytes = int(token_bytes[rows[:, 1:]].sum())
    return Score(math.fsum(row_nats.tolist()) / (math.log(2) * total_bytes), row_nats)
