"""Bits per byte of served logits, and the probes that are mixed in with them. Computed by the referee alone."""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_autoresearch.core.statistics import student_t_cdf

PROBE_TOLERANCE = 1e-4
"""How far a log-probability may move, relative to max(1, its size), where nothing that it may depend on has changed."""
PROBED_ROWS = 512
"""A quarter of the held-out rows is looked at again, or these many where that is more."""
LOSS_ELEMENTS = 2**27
"""Logits that the loss is computed of at once."""
TWINS = 64
"""At least so many pairs of rows, where there are so many."""
CHANCE = 1e-7
"""How likely an honest model may be to be taken for one that looks ahead, or that learns while it is scored."""
UNLIKELY = math.sqrt(-2 * math.log(CHANCE))
"""A sum of differences whose signs are tossed is as large, against the root of the sum of squares, with that chance at
most (Hoeffding 1963, "Probability inequalities for sums of bounded random variables"); nearly so where, as for baits of
one row, a later difference depends on an earlier toss."""


class RuleBroken(Exception):
    """A probe shows that the logits depend on what they must not depend on."""


class NotFinite(Exception):
    """The logits hold NaN, or infinities that leave a target without probability."""


def nats(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Loss (B, T) float64 of logits (B, T, vocab) at targets (B, T), 0 where it does not count. Or NotFinite.

    The logits may be on a device, where nothing of their size is made beside them; targets and loss are on the host.
    """
    rows = max(1, LOSS_ELEMENTS // logits[0].numel())
    found = []
    for part, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        wanted = wanted.to(part.device)
        loss = F.cross_entropy(part.flatten(0, 1), wanted.flatten(), reduction="none")
        found.append(loss.view_as(wanted).cpu())
    loss = torch.cat(found).double()
    if loss.isnan().any():  # as soon as one logit of its row is NaN, or +inf
        raise NotFinite("logits hold NaN, or +inf")
    loss = torch.where(counts, loss, 0.0)
    if not loss.isfinite().all():
        raise NotFinite("logits are infinite where it matters")
    return loss


def log_probabilities(logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """(n, k, vocab) on the host: of each of n `rows` of logits (B, T, vocab), at k positions each, (n, k)."""
    return logits[rows[:, None].to(logits.device), positions.to(logits.device)].log_softmax(-1).cpu()


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
        lengths = self.token_bytes[targets]
        self.nats += float(nats(logits, targets, lengths > 0).sum())
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

    Between the batches, at places that a secret draw chooses, come probes: rows that were asked for before, in other
    company and with other futures, and twins, pairs of rows with baits, one asked for early and one late.
    RuleBroken says what a model was seen to do.
    """
    total = BitsPerByte(torch.from_numpy(token_bytes.astype(np.int64)))
    draw = np.random.default_rng(secrets.randbits(128))
    starts = range(0, len(rows), batch_size)
    tokens = torch.from_numpy(rows.astype(np.int64))

    def ask(inputs: Tensor) -> Tensor:
        """Every request is a whole batch: another shape may mean another kernel, or a compilation."""
        missing = batch_size - len(inputs)
        filler = tokens[torch.from_numpy(draw.integers(0, len(tokens), missing)), :-1]
        return predict(torch.cat([inputs, filler]))[: len(inputs)]

    wanted = min(len(starts) // 4, PROBED_ROWS // batch_size)
    probes = [Probe(tokens, batch_size, draw) for _ in range(max(1, wanted))]
    probes[0].due = len(starts) - 1  # no answer is the last one
    early = int(draw.integers(0, len(starts) // 4 + 1))
    late = int(draw.integers(len(starts) * 3 // 4, len(starts)))
    twins = Twins(tokens[early * batch_size :], total.token_bytes, batch_size, draw)
    for number, start in enumerate(starts):
        if number == early:
            twins.look(ask)
        batch = tokens[start : start + batch_size]
        logits = ask(batch[:, :-1])
        total.add(logits, batch[:, 1:])
        for probe in probes:
            probe.note(start, logits)
            if number == probe.due:
                probe.look_again(ask)
        if number == late:
            twins.look(ask)
        progress((number + 1) / len(starts))
    twins.compare()
    return total.value


class Probe:
    """One batch of rows that have been asked for before, each now in other company and with another row's future.

    The log-probabilities up to the cut must not move. Futures are real text, so that a model cannot tell a probe by
    their being gibberish, and log-probabilities are compared, for logits may all be moved by a constant. For each row
    a few positions before its cut are kept of the first look.
    """

    def __init__(self, tokens: Tensor, batch_size: int, draw: np.random.Generator) -> None:
        count, length = len(tokens), tokens.shape[1] - 1
        batches = math.ceil(count / batch_size)
        self.due = int(draw.integers(batches // 2, batches))  # the batch after which it comes
        asked = min(count, (self.due + 1) * batch_size)
        self._tokens, self._batch_size = tokens[:, :-1], batch_size
        self._rows = torch.from_numpy(draw.choice(asked, min(batch_size, count), replace=False))
        self._futures = self._tokens[torch.from_numpy(draw.permutation(count)[: len(self._rows)])]
        self._cut = torch.from_numpy(draw.integers(0, max(1, length - 1), size=(len(self._rows), 1)))
        earlier = torch.from_numpy(draw.integers(0, length, size=(len(self._rows), 1))) % (self._cut + 1)
        self._positions = torch.cat([(self._cut - torch.arange(3)).clamp(min=0), earlier], dim=1)
        self._first = torch.empty(0)

    def note(self, start: int, logits: Tensor) -> None:
        """Keep what is to be compared of the first look, at the rows from `start` on."""
        here = (self._rows >= start) & (self._rows < start + len(logits))
        if not here.any():
            return
        if not len(self._first):
            self._first = torch.empty(*self._positions.shape, logits.shape[-1])
        self._first[here] = log_probabilities(logits, self._rows[here] - start, self._positions[here])

    def look_again(self, predict: Callable[[Tensor], Tensor]) -> None:
        """RuleBroken where the second look differs; two more looks tell why."""
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
        """Whether these rows, which stand at `places` among the logits, got what they got at first."""
        found = log_probabilities(logits, places, self._positions[which])
        return moved(self._first[which], found) <= PROBE_TOLERANCE


class Twins:
    """Pairs of rows that differ in one early token: one of each is asked for early, before the row itself, one late.

    Which one comes first is a toss, so neither is likelier the easier one, unless the model has learned from the
    held-out text in between. That neither has been seen before helps where answers are remembered.

    Later in each row, the same in both twins, there are baits: places where a toss puts in either the row's own token
    or another row's. To a model that does not look ahead, the one that was put in is no likelier than the other.
    """

    def __init__(self, tokens: Tensor, token_bytes: Tensor, batch_size: int, draw: np.random.Generator) -> None:
        count, length = len(tokens), tokens.shape[1] - 1

        def some(low: int, high: int, columns: int) -> Tensor:
            return torch.from_numpy(draw.integers(low, max(low + 1, high), size=(pairs, columns)))

        chosen = torch.from_numpy(draw.permutation(count)[: max(batch_size, TWINS)])
        pairs = len(chosen)
        self._batch_size, self._targets = batch_size, tokens[chosen, 1:]
        places = torch.from_numpy(draw.random((pairs, length - length // 2)).argsort(1))  # of the second half
        self._baits = (length // 2 + places[:, : min(8, length // 8 or 1)]).clamp(min=min(1, length - 1))
        own, other = tokens[chosen].gather(1, self._baits), tokens[some(0, count, 1), self._baits]
        tossed = some(0, 2, self._baits.shape[1]).bool()
        self._put_in = torch.where(tossed, own, other)
        inputs = tokens[chosen, :-1].scatter(1, self._baits, self._put_in)
        self._left_out = torch.where(self._put_in == own, other, own)
        place = some(0, length // 4, 1)
        self._counts = (token_bytes[self._targets] > 0) & (torch.arange(length) > place)
        self._rows = [inputs.scatter(1, place, tokens[some(0, count, 1), place]) for _ in range(2)]
        self._nats: list[Tensor] = []
        self._lure = torch.zeros(self._baits.shape)

    def look(self, predict: Callable[[Tensor], Tensor]) -> None:
        """Ask for the next of each pair."""
        found = []
        for start in range(0, len(self._targets), self._batch_size):
            part = slice(start, start + self._batch_size)
            logits = predict(self._rows[len(self._nats)][part])
            targets, before = self._targets[part], (self._baits[part] - 1).clamp(min=0)
            found.append(nats(logits, targets, self._counts[part]).sum(1))
            at = log_probabilities(logits, torch.arange(len(before)), before)
            put_in, left_out = (at.gather(2, which[part, :, None])[..., 0] for which in (self._put_in, self._left_out))
            self._lure[part] += (put_in - left_out).nan_to_num(nan=0.0).clamp(-10, 10)
        self._nats.append(torch.cat(found))

    def compare(self) -> None:
        """RuleBroken where baits were taken, or the later twins predicted better, by more than chance explains."""
        if float(self._lure.sum()) > UNLIKELY * float(self._lure.square().sum().sqrt()):
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
