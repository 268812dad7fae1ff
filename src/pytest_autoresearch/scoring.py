"""Bits per byte of served logits, and the probes that are mixed in with them. Computed by the referee alone."""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PROBE_TOLERANCE = 1e-4
"""How far a logit may move, relative to max(1, |logit|), where nothing that it may depend on has changed."""


class RuleBroken(Exception):
    """A probe shows that the logits depend on what they must not depend on."""


class NotFinite(Exception):
    """The logits hold NaN, or infinities that leave a target without probability."""


def buffer_bytes(rows: int, sequence_length: int, vocab_size: int) -> int:
    """Size of the memory that a referee and its candidate share: tokens (int64), then logits (float32)."""
    return rows * sequence_length * (8 + 4 * vocab_size)


def views(memory: mmap, rows: int, sequence_length: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """The shared memory as tokens (rows, T) int64 and logits (rows, T, vocab) float32."""
    count = rows * sequence_length
    tokens = torch.frombuffer(memory, dtype=torch.int64, count=count)
    logits = torch.frombuffer(memory, dtype=torch.float32, count=count * vocab_size, offset=8 * count)
    return tokens.view(rows, sequence_length), logits.view(rows, sequence_length, vocab_size)


@dataclass
class BitsPerByte:
    """Σ nats / (ln 2 · Σ bytes) over targets, special tokens in neither sum.

    `token_bytes` (vocab,) holds the length of each token's raw bytes, 0 for a special token.
    """

    token_bytes: Tensor
    nats: float = 0.0
    bytes: int = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add logits (B, T, vocab) float32 and targets (B, T) int64. NotFinite if they cannot be scored."""
        if logits.isnan().any():
            raise NotFinite("logits hold NaN")
        lengths = self.token_bytes[targets]
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        total = float(nats[lengths > 0].double().sum())
        if not math.isfinite(total):
            raise NotFinite("logits are infinite where it matters")
        self.nats += total
        self.bytes += int(lengths.sum())

    @property
    def value(self) -> float:
        return self.nats / (math.log(2) * self.bytes)


def score(
    predict: Callable[[Tensor], Tensor],
    rows: np.ndarray,
    token_bytes: np.ndarray,
    batch_size: int,
    progress: Callable[[float], None] = lambda share: None,
) -> float:
    """val_bpb of `predict`, tokens (B, T) int64 → logits (B, T, vocab) float32, on held-out rows (N, T + 1).

    Two batches, chosen by a secret draw, are asked for again: one unchanged (a model must not depend on what it has
    seen before), one with its futures replaced (a model must not look ahead). RuleBroken names the probe.
    """
    total = BitsPerByte(torch.from_numpy(token_bytes.astype(np.int64)))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    draw = np.random.default_rng(secrets.randbits(128))
    repeated, altered = (int(draw.integers(len(batches))) for _ in range(2))
    for number, batch in enumerate(batches):
        tokens = torch.from_numpy(batch.astype(np.int64))
        logits = predict(tokens[:, :-1])
        total.add(logits, tokens[:, 1:])
        if number == repeated:
            first_look = logits.clone()
        if number == altered:
            probe_futures(predict, tokens[:, :-1], logits.clone(), draw)
        progress((number + 1) / len(batches))
    again = torch.from_numpy(batches[repeated][:, :-1].astype(np.int64))
    if moved(first_look, predict(again)) > PROBE_TOLERANCE:
        raise RuleBroken("the same tokens got other logits on a second look")
    return total.value


def probe_futures(
    predict: Callable[[Tensor], Tensor], tokens: Tensor, logits: Tensor, draw: np.random.Generator
) -> None:
    """Replace each row's tokens after a drawn position: the logits up to it must not move."""
    (rows, length), vocab_size = tokens.shape, logits.shape[-1]
    cut = torch.from_numpy(draw.integers(0, max(1, length - 1), size=(rows, 1)))
    others = (tokens + torch.from_numpy(draw.integers(1, vocab_size, size=(rows, length)))) % vocab_size
    past = torch.arange(length) <= cut
    after = predict(torch.where(past, tokens, others))
    if moved(logits[past], after[past]) > PROBE_TOLERANCE:
        raise RuleBroken("logits depend on tokens that come later")


def moved(before: Tensor, after: Tensor) -> float:
    """The largest change of a logit relative to max(1, |logit|)."""
    change = torch.where(before == after, 0.0, (after - before).abs() / before.abs().clamp(min=1))  # −∞ may stay −∞
    return float(change.nan_to_num(nan=math.inf).max()) if change.numel() else 0.0
