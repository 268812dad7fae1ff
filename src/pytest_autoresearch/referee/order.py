"""In which order held-out rows and decoys are asked for: a secret random one, a whole batch at a time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECOYS = 512
"""The most decoys, but a third of the rows if that is less, and a sixteenth if that is more."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Which item each slot of each request holds: `items` (requests, batch_size).

    Items 0 … N − 1 are the held-out rows, and N, N + 1, … are the decoys. `moment` (N,) says when a row is asked for:
    N independent uniform random numbers, in whose order the rows come.
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
        """A held-out row for each decoy to begin as: from any other request, before or after the decoy's, alike.

        If decoys came before their sources only, whoever remembers rows could tell a source that comes later.
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
    """How many of so many decoys each request gets, of at most `batch_size` items.

    The first request gets three times as many as the last, because a decoy tells most while none of its text has been
    asked for. If that does not fit, because the rows are few, all get as many.
    """
    dealt = np.zeros(requests, dtype=np.int64)
    for first in (3.0, 1.0):
        share = np.linspace(first, 1.0, requests)
        ends = np.round(share.cumsum() / share.sum() * decoys).astype(np.int64)
        dealt = np.diff(ends, prepend=0)
        if dealt.max() <= batch_size:
            break
    return dealt
