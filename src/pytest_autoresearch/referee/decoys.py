"""Decoy rows: each begins as one held-out row and goes on as another, with single tokens exchanged by coin tosses.

They are asked for among the rows that are scored and are made to look like them. A decoy and its source, the row that
it begins as, must get the same answers up to the cut, where the text changes. After the cut, the token that a coin put
in must not be found likelier than the one that it left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_autoresearch.referee.order import Integers

PLACES = 48
"""The most places of a row that a coin may be tossed for. About one in four of them is used: the place must be behind
the cut, and the text must have another token that stands between the same two neighbours."""
SAMPLE = 64
"""Rows that are searched for a text to go on with."""
INDEXED = 2**20
"""Tokens of held-out text that are searched for a token to put in."""


@dataclass(frozen=True)
class Decoys:
    """Decoy rows (E, T + 1) and how they were made. Up to position `cut` the inputs are those of row `source`.

    For each toss: the number of its decoy, the place of the token, and the two tokens.
    """

    rows: Integers
    source: Integers  # (E,)
    cut: Integers  # (E,)
    decoy: Integers  # (tosses,) and so are the next three
    place: Integers
    put_in: Integers
    left_out: Integers

    @classmethod
    def make(cls, rows: NDArray[np.uint16], sources: Integers, draw: np.random.Generator) -> "Decoys":
        """A decoy for each of `sources`, which are numbers of held-out rows (N, T + 1)."""
        neighbours = Neighbours(rows, draw)
        made = rows[sources].astype(np.int64)
        cuts, tosses = [], []
        for number, row in enumerate(made):
            cuts.append(cut := _change_future(row, rows, draw))
            places = _places(cut, len(row) - 1, draw)
            others = neighbours.exchange(row, places, draw)
            for place, other in others.items():
                own = row[place]
                row[place], left_out = (own, other) if draw.integers(2) else (other, own)
                tosses.append((number, place, row[place], left_out))
        columns = np.array(tosses, dtype=np.int64).reshape(-1, 4).T
        return cls(made, sources, np.array(cuts, dtype=np.int64), *columns)

    def text(self, rows: NDArray[np.uint16], items: Integers) -> Integers:
        """The rows (B, T + 1) of items: held-out rows have the numbers 0 … N − 1, and decoys those that follow."""
        held_out, found = items < len(rows), np.empty((len(items), rows.shape[1]), dtype=np.int64)
        found[held_out], found[~held_out] = rows[items[held_out]], self.rows[items[~held_out] - len(rows)]
        return found


def _change_future(row: Integers, rows: NDArray[np.uint16], draw: np.random.Generator) -> int:
    """Let `row` (T + 1,) go on as another row from a random place on. Returns the last position before the change.

    If a sample of the rows has the same two tokens, or the same last one, the new text is what follows them there: so
    the change is no jolt that a model could notice. If no text can be put in, the row stays and T − 1 is returned.
    """
    length = len(row) - 1
    if length < 2:
        return length - 1
    cut = int(draw.integers(length - 1))
    others = rows[draw.choice(len(rows), min(SAMPLE, len(rows)), replace=False)]
    fits = others[:, 1 : cut + 2] != row[cut + 1]  # (SAMPLE, cut + 1): a new text may begin at this place
    one_same = fits & (others[:, : cut + 1] == row[cut])
    two_same = one_same[:, 1:] & (others[:, :cut] == row[cut - 1])
    same_place = np.zeros_like(fits)
    same_place[:, -1] = fits[:, -1]
    for allowed, shift in ((two_same, 2), (one_same, 1), (same_place, 1)):
        if len(found := np.argwhere(allowed)):
            other, begin = found[draw.integers(len(found))]
            row[cut + 1 :] = others[other, begin + shift :][: length - cut]
            return cut
    return length - 1


def _places(cut: int, length: int, draw: np.random.Generator) -> Integers:
    """Places behind the cut to toss for, in increasing order. No two of them are neighbours."""
    every_second = np.arange(1 + draw.integers(2), length, 2)
    some = np.sort(draw.permutation(every_second)[:PLACES])
    return some[some > cut + 1]


class Neighbours:
    """Which tokens stand between which neighbours in the held-out text, or in a part of it if it is long."""

    def __init__(self, rows: NDArray[np.uint16], draw: np.random.Generator) -> None:
        some = rows
        if rows.size > INDEXED:
            some = rows[draw.choice(len(rows), max(1, INDEXED // rows.shape[1]), replace=False)]
        keys = (some[:, :-2].astype(np.int64) << 16 | some[:, 2:]).ravel()
        order = keys.argsort(kind="stable")
        self._keys, self._tokens = keys[order], some[:, 1:-1].ravel()[order]

    def exchange(self, row: Integers, places: Integers, draw: np.random.Generator) -> dict[int, int]:
        """For each place where there is one, another token that stands between the same two neighbours elsewhere.

        If no place has one, it is a token that stands behind the same left neighbour, and if no place has that, any.
        """
        for width in (0, 16, 32):  # bits of the neighbours that need not agree
            found = {}
            for place in places.tolist():
                key = (int(row[place - 1]) << 16 | int(row[place + 1])) >> width << width
                begin, end = np.searchsorted(self._keys, (key, key + (1 << width)))
                tokens = self._tokens[begin:end]
                tokens = tokens[tokens != row[place]]
                if len(tokens):
                    found[place] = int(tokens[draw.integers(len(tokens))])
            if found:
                return found
        return {}
