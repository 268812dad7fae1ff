"""Losses and log-probabilities of logits, on whatever device the logits are."""

import torch
import torch.nn.functional as F
from torch import Tensor

LOSS_ELEMENTS = 2**27
"""The most logits whose loss is computed at once."""


class NotFinite(Exception):
    """The logits hold NaN, or infinities that leave a target without probability."""


def nats(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Loss (B, T) float64 of logits (B, T, vocab) at targets (B, T); 0 where `counts` (B, T) is false.

    Raises NotFinite. The logits may be on a GPU, where no second tensor of their size is made. Targets and loss are on
    the host.
    """
    rows = max(1, LOSS_ELEMENTS // logits[0].numel())
    found = []
    for part, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        wanted = wanted.to(part.device)
        loss = F.cross_entropy(part.flatten(0, 1), wanted.flatten(), reduction="none")
        found.append(loss.view_as(wanted).cpu())
    loss = torch.cat(found).double()
    if loss.isnan().any():  # one logit that is NaN or +inf is enough for its position
        raise NotFinite("logits hold NaN, or +inf")
    loss = torch.where(counts, loss, 0.0)
    if not loss.isfinite().all():
        raise NotFinite("logits are infinite at a target")
    return loss


def log_probabilities(logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Log-probabilities (n, k, vocab), on the host, of logits (B, T, vocab): of n `rows` (n,), each at its own k
    `positions` (n, k)."""
    return logits[rows[:, None].to(logits.device), positions.to(logits.device)].log_softmax(-1).cpu()
