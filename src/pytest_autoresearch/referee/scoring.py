"""Bits per byte of a served model on held-out text. Only the referee computes this score."""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.referee.losses import nats
from pytest_autoresearch.referee.probes import MemorizationProbe, Predict, Probe

PROBED_ROWS = 512
"""The most held-out rows that probes ask for again; if there are few rows, it is a quarter of the batches."""


@dataclass
class BitsPerByte:
    """Σ nats / (ln 2 · Σ bytes) over targets, special tokens in neither sum.

    `token_bytes` (vocab,) holds the length of each token's raw bytes, 0 for a special token.
    """

    token_bytes: Tensor
    nats: float = 0.0
    bytes: int = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add logits (B, T, vocab) float32 at targets (B, T) int64. NotFinite if they cannot be scored."""
        lengths = self.token_bytes[targets]
        self.nats += float(nats(logits, targets, lengths > 0).sum())
        self.bytes += int(lengths.sum())

    @property
    def value(self) -> float:
        return self.nats / (math.log(2) * self.bytes)


def score(
    predict: Predict,
    rows: np.ndarray,
    token_bytes: np.ndarray,
    batch_size: int,
    on_batch: Callable[[float], None] = lambda share: None,
) -> float:
    """val_bpb of `predict`, tokens (B, T) int64 → logits (B, T, vocab) float32, on held-out rows (N, T + 1).

    Probes come between the batches, at secret random places. RuleBroken says which rule a probe found broken; NotFinite
    says why logits cannot be scored. `on_batch` is called with the share that is done, 0 to 1.
    """
    total = BitsPerByte(torch.from_numpy(token_bytes.astype(np.int64)))
    draw = np.random.default_rng(secrets.randbits(128))
    starts = range(0, len(rows), batch_size)
    tokens = torch.from_numpy(rows.astype(np.int64))

    def ask(inputs: Tensor) -> Tensor:
        """Logits of at most a batch of rows. Every request is a whole batch: another shape may need another kernel."""
        missing = batch_size - len(inputs)
        filler = tokens[torch.from_numpy(draw.integers(0, len(tokens), missing)), :-1]
        return predict(torch.cat([inputs, filler]))[: len(inputs)]

    wanted = min(len(starts) // 4, PROBED_ROWS // batch_size)
    probes = [Probe(tokens, batch_size, draw) for _ in range(max(1, wanted))]
    probes[0].due = len(starts) - 1  # so that the last batch is never the last request
    early = int(draw.integers(0, len(starts) // 4 + 1))
    late = int(draw.integers(len(starts) * 3 // 4, len(starts)))
    memorization = MemorizationProbe(tokens[early * batch_size :], total.token_bytes, batch_size, draw)
    for number, start in enumerate(starts):
        if number == early:
            memorization.look(ask)
        batch = tokens[start : start + batch_size]
        logits = ask(batch[:, :-1])
        total.add(logits, batch[:, 1:])
        for probe in probes:
            probe.note(start, logits)
            if number == probe.due:
                probe.look_again(ask)
        if number == late:
            memorization.look(ask)
        on_batch((number + 1) / len(starts))
    memorization.compare()
    return total.value
