"""The secret random order in which the referee asks for held-out rows and decoys, a whole batch at a time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECOYS = 512
"""How many decoys there are, but at most a third of the rows and at least a sixteenth. The rest of a batch is added."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Which item each slot of each request holds: `items` (requests, batch_size).

    Items 0 … N − 1 are the held-out rows, and N, N + 1, … are the decoys. `moment` (N,) holds a uniform random number
    for each row. The rows are asked for in the order of these numbers.
    """

    items: Integers
    moment: NDArray[np.float64]

    @classmethod
    def draw(cls, count: int, batch_size: int, draw: np.random.Generator) -> "Order":
        """An order of `count` rows."""
        moment = draw.random(count)
        wanted = count + max(1, count // 16, min(count // 3, DECOYS))
        requests = max(2, math.ceil(wanted / batch_size))  # one would be no second look
        decoys = requests * batch_size - count
        share = _deal(decoys, requests, batch_size)
        items = np.empty((requests, batch_size), dtype=np.int64)
        rows, next_decoy = iter(moment.argsort().tolist()), count
        for request, own in enumerate(share.tolist()):
            held_out = [next(rows) for _ in range(batch_size - own)]
            items[request] = draw.permutation([*held_out, *range(next_decoy, next_decoy + own)])
            next_decoy += own
        return cls(items, moment)

    def sources(self, draw: np.random.Generator) -> Integers:
        """The number of a held-out row for each decoy (E,) to begin as, from any other request, earlier or later.

        If all decoys came before their sources, a model that remembers rows could tell which rows are sources.
        """
        count = len(self.moment)
        found = []
        for items in self.items:
            elsewhere = np.setdiff1d(np.arange(count), items)
            if not len(elsewhere):
                elsewhere = np.arange(count)
            wanted = int((items >= count).sum())
            found.append(draw.choice(elsewhere, wanted, replace=wanted > len(elsewhere)))
        return np.concatenate(found)

    def requests(self) -> Integers:
        """(items,): the number of the request in which each item is asked for."""
        found = np.empty(self.items.size, dtype=np.int64)
        found[self.items] = np.arange(len(self.items))[:, None]
        return found


def _deal(decoys: int, requests: int, batch_size: int) -> Integers:
    """How many of the decoys each request gets, at most `batch_size`.

    The first request gets three times as many as the last, because a decoy tells most before its text has been asked
    for. If the first one has no room for so many, because the rows are few, all requests get the same number.
    """
    dealt = np.zeros(requests, dtype=np.int64)
    for first in (3.0, 1.0):
        share = np.linspace(first, 1.0, requests)
        ends = np.round(share.cumsum() / share.sum() * decoys).astype(np.int64)
        dealt = np.diff(ends, prepend=0)
        if dealt.max() <= batch_size:
            break
    return dealt
