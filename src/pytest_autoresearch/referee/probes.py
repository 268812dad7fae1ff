"""Probes: requests that show whether logits depend on later tokens, on other rows or on earlier requests.

They come between the requests of the scoring, at secret random places.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.core.statistics import student_t_cdf
from pytest_autoresearch.referee.losses import log_probabilities, nats

PROBE_TOLERANCE = 1e-4
"""How far a log-probability may move, relative to max(1, its size), if nothing has changed that it may depend on."""
PAIRS = 64
"""The memorization probe has at least so many pairs of rows, if there are so many held-out rows."""
CHANCE = 1e-7
"""The highest chance that an honest model is taken for one that looks ahead, or that learns while it is scored."""
UNLIKELY = math.sqrt(-2 * math.log(CHANCE))
"""A sum of differences with random signs exceeds UNLIKELY times the root of the sum of their squares with a probability
of at most CHANCE (Hoeffding 1963, "Probability inequalities for sums of bounded random variables"). For the decoys of
one row this holds approximately, because a later difference depends on an earlier draw."""

Predict = Callable[[Tensor], Tensor]
"""Tokens (B, T) int64 → logits (B, T, vocab) float32."""


class RuleBroken(Exception):
    """A probe shows that logits depend on something that they must not depend on."""


class Probe:
    """Asks again for a batch of rows: beside other rows, and in each row with other tokens after a cut.

    The log-probabilities up to the cut must not move. The tokens after it are those of another row, so that a model
    cannot tell a probe from text. The probe compares log-probabilities, because logits may differ by a constant, at a
    few positions of each row that it kept from the first look.
    """

    def __init__(self, tokens: Tensor, batch_size: int, draw: np.random.Generator) -> None:
        count, length = len(tokens), tokens.shape[1] - 1
        batches = math.ceil(count / batch_size)
        self.due = int(draw.integers(batches // 2, batches))  # the number of the batch after which it comes
        asked = min(count, (self.due + 1) * batch_size)
        self._tokens, self._batch_size = tokens[:, :-1], batch_size
        self._rows = torch.from_numpy(draw.choice(asked, min(batch_size, count), replace=False))
        self._futures = self._tokens[torch.from_numpy(draw.permutation(count)[: len(self._rows)])]
        self._cut = torch.from_numpy(draw.integers(0, max(1, length - 1), size=(len(self._rows), 1)))
        earlier = torch.from_numpy(draw.integers(0, length, size=(len(self._rows), 1))) % (self._cut + 1)
        self._positions = torch.cat([(self._cut - torch.arange(3)).clamp(min=0), earlier], dim=1)
        self._first = torch.empty(0)

    def note(self, start: int, logits: Tensor) -> None:
        """Keep the log-probabilities to compare from the first look at the rows from `start` on."""
        here = (self._rows >= start) & (self._rows < start + len(logits))
        if not here.any():
            return
        if not len(self._first):
            self._first = torch.empty(*self._positions.shape, logits.shape[-1])
        self._first[here] = log_probabilities(logits, self._rows[here] - start, self._positions[here])

    def look_again(self, predict: Predict) -> None:
        """RuleBroken if the second look differs; two more requests find out why."""
        rows = self._tokens[self._rows]
        altered = torch.where(torch.arange(rows.shape[1]) <= self._cut, rows, self._futures)
        places = torch.arange(len(rows))
        if self._same(predict(altered), places):
            return
        start = int(self._rows[0]) // self._batch_size * self._batch_size
        here = (self._rows >= start) & (self._rows < start + self._batch_size)
        again = predict(self._tokens[start : start + self._batch_size])
        if not self._same(again, self._rows[here] - start, here):
            raise RuleBroken("the same tokens got other logits on a second look")
        if not self._same(predict(rows), places):
            raise RuleBroken("logits depend on the other rows of the batch")
        raise RuleBroken("logits depend on tokens that come later")

    def _same(self, logits: Tensor, places: Tensor, which: Tensor | slice = slice(None)) -> bool:
        """Whether the rows `which`, at `places` among the logits, have the log-probabilities of the first look."""
        found = log_probabilities(logits, places, self._positions[which])
        return moved(self._first[which], found) <= PROBE_TOLERANCE


class MemorizationProbe:
    """Asks for pairs of rows that differ in one early token: for one row of each pair early, for the other one late.

    A random draw decides which row comes first. So the late rows are no easier than the early ones, unless the model
    has learned from the held-out text in between. Neither row was asked for before, so remembered answers do not help.

    Both rows of a pair have the same decoys in their second half: positions that hold either the row's own token or the
    token of another row, by a random draw. To a model that does not look ahead, the token in the row is on average no
    more likely than the other one.
    """

    def __init__(self, tokens: Tensor, token_bytes: Tensor, batch_size: int, draw: np.random.Generator) -> None:
        count, length = len(tokens), tokens.shape[1] - 1

        def some(low: int, high: int, columns: int) -> Tensor:
            return torch.from_numpy(draw.integers(low, max(low + 1, high), size=(pairs, columns)))

        chosen = torch.from_numpy(draw.permutation(count)[: max(batch_size, PAIRS)])
        pairs = len(chosen)
        self._batch_size, self._targets = batch_size, tokens[chosen, 1:]
        places = torch.from_numpy(draw.random((pairs, length - length // 2)).argsort(1))  # in the second half
        self._decoys = (length // 2 + places[:, : min(8, length // 8 or 1)]).clamp(min=min(1, length - 1))
        own, other = tokens[chosen].gather(1, self._decoys), tokens[some(0, count, 1), self._decoys]
        tossed = some(0, 2, self._decoys.shape[1]).bool()
        self._put_in = torch.where(tossed, own, other)
        inputs = tokens[chosen, :-1].scatter(1, self._decoys, self._put_in)
        self._left_out = torch.where(self._put_in == own, other, own)
        place = some(0, length // 4, 1)
        self._counts = (token_bytes[self._targets] > 0) & (torch.arange(length) > place)
        self._rows = [inputs.scatter(1, place, tokens[some(0, count, 1), place]) for _ in range(2)]
        self._nats: list[Tensor] = []
        self._decoy_gain = torch.zeros(self._decoys.shape)

    def look(self, predict: Predict) -> None:
        """Ask for one row of each pair: the early rows in the first call, the late rows in the second."""
        found = []
        for start in range(0, len(self._targets), self._batch_size):
            part = slice(start, start + self._batch_size)
            logits = predict(self._rows[len(self._nats)][part])
            targets, before = self._targets[part], (self._decoys[part] - 1).clamp(min=0)
            found.append(nats(logits, targets, self._counts[part]).sum(1))
            at = log_probabilities(logits, torch.arange(len(before)), before)
            put_in, left_out = (at.gather(2, which[part, :, None])[..., 0] for which in (self._put_in, self._left_out))
            self._decoy_gain[part] += (put_in - left_out).nan_to_num(nan=0.0).clamp(-10, 10)
        self._nats.append(torch.cat(found))

    def compare(self) -> None:
        """RuleBroken if the decoys, or the late rows, are predicted better than chance explains."""
        if float(self._decoy_gain.sum()) > UNLIKELY * float(self._decoy_gain.square().sum().sqrt()):
            raise RuleBroken("logits depend on tokens that come later")
        early, late = self._nats
        gain = early - late
        if len(gain) < 2 or float(gain.std()) == 0:
            return
        t = float(gain.mean() / gain.std() * math.sqrt(len(gain)))
        if student_t_cdf(-t, len(gain) - 1) < CHANCE:
            better = float(gain.sum() / early.sum())
            raise RuleBroken(f"it learned from held-out text: {better:.2%} better the second time")


def moved(before: Tensor, after: Tensor) -> float:
    """The largest change of a log-probability relative to max(1, |log-probability|)."""
    change = torch.where(before == after, 0.0, (after - before).abs() / before.abs().clamp(min=1))  # −∞ may stay −∞
    return float(change.nan_to_num(nan=math.inf).max()) if change.numel() else 0.0
