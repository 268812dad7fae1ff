"""What answers show about a model: whether they depend on later tokens, on other rows, or on what was asked before."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_autoresearch.referee.decoys import Decoys
from pytest_autoresearch.referee.losses import log_probabilities
from pytest_autoresearch.referee.order import Integers, Order

TOLERANCE = 1e-4
"""How far a log-probability may move, relative to max(1, its size), to count as the same."""
NOISE = 0.05
"""Nats (root mean square) by which the loss of the same rows may move if arithmetic is not repeatable: in bfloat16 it
moves by about 0.02. Answers that move more are given at random."""
CHANCE = 1e-7
"""The highest chance, in each of the tests, that an honest model is taken for one that breaks a rule."""
MOMENTS = tuple(eighth / 8 for eighth in range(1, 8))
"""Moments (see `Order`) after which the rows that gain most must not come too often."""
CLEAR = (0.0, 4.0, 8.0)
EARLY = (1.0, 0.5, 0.25)
BOUNDS = (10.0, 0.25)
"""Tosses are tested twelve times: those with a gain of at least so many nats (CLEAR), in the first requests up to so
large a share of all (EARLY), and all of them with gains cut off at the second bound. A model that looks ahead in few
rows shows it in large gains. One that remembers all rows, and is honest where a row is nearly one of them, shows it in
the first requests. One that looks ahead faintly shows it where it is unsure."""
TYPICAL = 3.0
"""Where arithmetic is not repeatable, gains are tested as they are, and again cut off at so many times their median. So
a few large ones, which a program may put there by itself, hide nothing."""
FOREIGN_FUTURES = 1024
"""The most held-out rows that are asked for once more, with foreign futures, if arithmetic is not repeatable."""
LATER_TOKENS = "logits depend on tokens that come later"
AT_RANDOM = (
    "the same tokens got other logits on a second look: answers at random (usual causes: functional dropout without "
    "`training=`, BatchNorm in training mode, state changed in `forward`)"
)
OTHER_ROWS = (
    "logits depend on the other rows of the batch (usual causes: BatchNorm in training mode, a scale taken over the "
    "whole batch)"
)

Look = Callable[[Integers], tuple[Tensor, Tensor]]
"""Asks for rows (B, T + 1). Returns logits (B, T, vocab) float32 and loss (B, T) float64 in nats."""


class RuleBroken(Exception):
    """The answers depend on something that they must not depend on."""


def beyond_chance(total: float, squares: float, tests: int) -> bool:
    """Whether a sum is larger than chance explains, for one of so many tests.

    `total` is the sum of independent numbers c_i · x_i, and `squares` the sum of all c_i². If each x_i is 1 or −1 by a
    coin's toss, the chance of a total above z · sqrt(squares) is at most exp(−z² / 2) (Hoeffding 1963, "Probability
    inequalities for sums of bounded random variables"). The same bound holds if each x_i is uniform with variance 1
    (Arbel et al. 2020, "On strict sub-Gaussianity").
    """
    return total > math.sqrt(2 * math.log(tests / CHANCE) * squares)


# -- a decoy and its source: the same answers up to the cut --


class Pairs:
    """Compares each decoy's answers with its source's, up to the cut: beside other rows, with another future.

    It compares the loss at all positions before the cut, and whole distributions at a few positions, the cut among
    them. Log-probabilities are compared, because logits may differ by a constant. In tensors by side, side 0 is the
    source and side 1 the decoy.
    """

    def __init__(self, decoys: Decoys, rows: np.ndarray, order: Order, draw: np.random.Generator) -> None:
        count, length = len(decoys.cut), rows.shape[1] - 1
        self._order, self._decoys, self._rows = order, decoys, rows
        self._cut = torch.from_numpy(decoys.cut)
        earlier = torch.from_numpy(draw.integers(0, length, size=count)) % (self._cut + 1)
        self._positions = torch.stack([*((self._cut - back).clamp(min=0) for back in range(3)), earlier], dim=1)
        after = np.minimum(decoys.cut + 1, length)
        self._own = torch.from_numpy(rows[decoys.source, after].astype(np.int64))
        self._foreign = torch.from_numpy(decoys.rows[np.arange(count), after])
        requests = order.requests()
        self._asked = torch.from_numpy(np.stack([requests[decoys.source], requests[len(rows) :]]))  # by side
        self._of_source: dict[int, list[int]] = {}
        for decoy, source in enumerate(decoys.source.tolist()):
            self._of_source.setdefault(source, []).append(decoy)
        self._first: dict[int, Tensor] = {}  # log-probabilities at the positions, of the side that is asked for first
        self._moved = torch.zeros(count)
        self._loss = torch.zeros(2, count, length, dtype=torch.float64)
        self._row_loss = torch.zeros(len(rows), length)
        self._odds = torch.zeros(2, count, dtype=torch.float64)  # log, of the source's next token to the decoy's

    def _sides_in(self, items: Integers) -> Tensor:
        """The decoy, the side and the slot (3, n) of each row in a request that is a side of a pair."""
        found = []
        for slot, item in enumerate(items.tolist()):
            if item >= len(self._rows):
                found.append((item - len(self._rows), 1, slot))
            found += [(decoy, 0, slot) for decoy in self._of_source.get(item, [])]
        return torch.tensor(found, dtype=torch.long).view(-1, 3).T

    def note(self, items: Integers, logits: Tensor, loss: Tensor) -> None:
        """Keep what is to be compared of the answers to a request, and compare it with what was kept before."""
        held_out = items < len(self._rows)
        self._row_loss[items[held_out]] = loss[held_out].float()
        decoy, side, slot = self._sides_in(items)
        if not len(decoy):
            return
        self._loss[side, decoy] = loss[slot]
        found = log_probabilities(logits, slot, self._positions[decoy])
        at_cut = found[:, 0].double()
        mine, other = (at_cut.gather(1, tokens[decoy, None])[:, 0] for tokens in (self._own, self._foreign))
        self._odds[side, decoy] = mine - other
        for number, now in zip(decoy.tolist(), found, strict=True):
            if number in self._first:
                self._moved[number] = change(self._first.pop(number), now)
            else:
                self._first[number] = now

    def check(self, look: Look, draw: np.random.Generator) -> None:
        """RuleBroken if pairs differ and noise does not explain it. Only pairs that differ cost more requests."""
        before = torch.arange(self._loss.shape[2]) < self._cut[:, None]
        source, decoy = torch.where(before, self._loss, 0.0)
        if change(source, decoy) <= TOLERANCE and float(self._moved.max()) <= TOLERANCE:
            return
        places = decoy - source
        odds = torch.where(self._own == self._foreign, 0.0, self._odds[0] - self._odds[1])
        places[torch.arange(len(odds)), self._cut] = odds.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        gain = places.sum(1)
        if not self._answers_are_noisy(look, draw, gain.abs()):
            raise RuleBroken(LATER_TOKENS)
        _moves(source[before], decoy[before], LATER_TOKENS)  # more than the same rows and futures move
        # Noise favours neither the true future nor the foreign one, and neither the first answer nor the later one.
        later = gain * (self._asked[0] - self._asked[1]).sign()
        if beyond_chance(float(later.sum()), float(later.square().sum()), 2):
            raise RuleBroken("it learned from held-out text: rows fare better on a second look")
        cut, again = self._gain_over_foreign_futures(look, draw)
        if favours_true_futures(torch.cat([places, again]), torch.cat([self._cut, cut])):
            raise RuleBroken(LATER_TOKENS)

    def _gain_over_foreign_futures(self, look: Look, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cuts (n,) of new decoys of held-out rows, and what the rows gain over these up to the cut, (n, T) nats.

        Asks for the decoys.
        """
        size, some = self._order.items.shape[1], draw.permutation(len(self._rows))[:FOREIGN_FUTURES]
        some = np.resize(some, math.ceil(len(some) / size) * size)
        cuts, found = [], []
        for sources in np.split(some, len(some) // size):
            decoys = Decoys.make(self._rows, sources, draw)
            logits, loss = look(decoys.rows)
            slot, cut = torch.arange(size), torch.from_numpy(decoys.cut)
            own = torch.from_numpy(self._rows[sources, decoys.cut + 1].astype(np.int64))
            loss[slot, cut] = -log_probabilities(logits, slot, cut[:, None])[slot, 0, own].double()
            more = loss - self._row_loss[sources]
            cuts.append(cut)
            found.append(torch.where(torch.arange(loss.shape[1]) <= cut[:, None], more, 0.0))
        wanted = min(len(self._rows), FOREIGN_FUTURES)
        return torch.cat(cuts)[:wanted], torch.cat(found)[:wanted]

    def _answers_are_noisy(self, look: Look, draw: np.random.Generator, gain: Tensor) -> bool:
        """Whether the same rows get slightly other answers when they are asked for again, or in another slot.

        RuleBroken if the answers differ by more than noise, or if other rows of the batch alone change them. `gain` is
        by pair, in nats: the request with the pair that differs most is asked for again.
        """
        worst = int((self._moved + gain.float()).argmax())
        items = self._order.items[int(self._asked[:, worst].min())]
        decoy, side, slot = self._sides_in(items)
        slots = slot.unique().numpy()
        again = self._ask(look, items)
        repeats = not _moves(self._loss[side, decoy], again[slot], AT_RANDOM)
        company = draw.integers(0, self._order.items.size, len(items))
        company[slots] = items[slots]
        beside_others = self._ask(look, company)
        if _moves(again[slots], beside_others[slots], OTHER_ROWS) and repeats:
            raise RuleBroken(OTHER_ROWS)
        places = draw.permutation(len(items))
        return _moves(beside_others[places], self._ask(look, company[places]), OTHER_ROWS) or not repeats

    def _ask(self, look: Look, items: Integers) -> Tensor:
        return look(self._decoys.text(self._rows, items))[1]


def favours_true_futures(gains: Tensor, cut: Tensor) -> bool:
    """Whether gains (n, T) of rows with their true futures over foreign ones, up to their cuts (n,), are beyond chance.

    Each sum is over the last place, the last two, four, eight …: who looks at the next token only gains at the cut,
    and the noise of all places before it would hide that.
    """
    back = cut[:, None] - torch.arange(gains.shape[1])
    windows = [1 << power for power in range(gains.shape[1].bit_length())]
    sums = [torch.where((back >= 0) & (back < window), gains, 0.0).sum(1) for window in [*windows, gains.shape[1]]]
    sums += [total.clamp(-most, most) for total in sums for most in [TYPICAL * float(total.abs().median())]]
    return any(beyond_chance(float(each.sum()), float(each.square().sum()), len(sums) + 1) for each in sums)


def _moves(before: Tensor, after: Tensor, reason: str) -> bool:
    """Whether the loss of the same rows differs. RuleBroken, with the reason, if it differs by more than noise."""
    moved = float((after - before).square().mean().sqrt())
    if moved > NOISE:
        raise RuleBroken(reason)
    return change(before, after) > TOLERANCE


def change(before: Tensor, after: Tensor) -> float:
    """The largest change of a loss or log-probability relative to max(1, its size)."""
    moved = torch.where(before == after, 0.0, (after - before).abs() / before.abs().clamp(min=1))  # −∞ may stay −∞
    return float(moved.nan_to_num(nan=math.inf).max()) if moved.numel() else 0.0


# -- the tosses of decoys: neither token may be found likelier --


class Tosses:
    """Adds up by how much the tokens that coins put in are found likelier than those that they left out.

    To a model that does not look ahead it is a coin's toss which of the two is in the row. The bound holds
    approximately for the tosses of one row, because a later difference depends on an earlier toss.
    """

    def __init__(self, decoys: Decoys, first_item: int) -> None:
        self._decoys, self._first_item = decoys, first_item
        self._gains: list[Tensor] = []

    def note(self, items: Integers, logits: Tensor) -> None:
        """Add the tosses of the decoys in a request."""
        own = self._decoys
        slot_of = np.full(len(own.cut), -1)
        slots = np.flatnonzero(items >= self._first_item)
        slot_of[items[slots] - self._first_item] = slots
        here = slot_of[own.decoy] >= 0
        slot, place = (torch.from_numpy(each[here]).to(logits.device) for each in (slot_of[own.decoy], own.place - 1))
        put_in, left_out = (torch.from_numpy(each[here]).to(logits.device) for each in (own.put_in, own.left_out))
        gain = logits[slot, place, put_in].double() - logits[slot, place, left_out].double()
        self._gains.append(gain.nan_to_num(nan=0.0).clamp(-BOUNDS[0], BOUNDS[0]).cpu())

    def check(self) -> None:
        """RuleBroken if the tokens that were put in are found likelier than chance explains."""
        parts = [torch.cat(self._gains[: math.ceil(len(self._gains) * part)]) for part in EARLY]
        some = [gains[gains.abs() >= least] for gains in parts for least in CLEAR]
        some += [gains.clamp(-BOUNDS[1], BOUNDS[1]) for gains in parts]
        if any(beyond_chance(float(each.sum()), float(each.square().sum()), len(some)) for each in some):
            raise RuleBroken(LATER_TOKENS)


# -- learning while being scored --


def check_growth(row_nats: Tensor, moment: NDArray[np.float64], baseline_nats: Sequence[float] | None) -> None:
    """RuleBroken if rows gain more on the baseline the later they are asked for.

    `row_nats`, `moment`, and `baseline_nats` if they are known, are (N,). A row's moment is random, so its gain depends
    on it only if the model has learned from the rows before. The baseline's nats say how hard each row is. The test
    looks at all gains, and at whether the half, the quarter, the eighth … of the rows that gain most come after one of
    MOMENTS too often.
    """
    known = baseline_nats is not None and len(baseline_nats) == len(row_nats)
    gain = ((torch.tensor(baseline_nats, dtype=torch.float64) if known else 0.0) - row_nats).numpy()
    best = moment[gain.argsort()[::-1]]
    counts = [len(gain) >> halvings for halvings in range(1, len(gain).bit_length() - 3)]
    tests = 1 + len(counts) * len(MOMENTS)
    deviation = gain - gain.mean()
    trend = float((deviation * (moment - 0.5)).sum()) * math.sqrt(12)  # a moment times √12 has variance 1
    late = any(
        _too_many((best[:count] > begin).mean(), 1 - begin, count, tests) for count in counts for begin in MOMENTS
    )
    if late or beyond_chance(trend, float((deviation**2).sum()), tests):
        raise RuleBroken("it learned from held-out text: rows fare better the later they are asked for")


def _too_many(share: float, expected: float, count: int, tests: int) -> bool:
    """Whether a share of `count` independent draws is larger than chance explains, for one of so many tests.

    The chance of such a share or a larger one is at most exp(−count · d), where d is the relative entropy of the two
    shares (Hoeffding 1963).
    """
    if share <= expected:
        return False
    entropy = share * math.log(share / expected)
    if share < 1:
        entropy += (1 - share) * math.log((1 - share) / (1 - expected))
    return count * entropy > math.log(tests / CHANCE)
