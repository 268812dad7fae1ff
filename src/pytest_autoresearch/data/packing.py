"""Packing: documents of any length into rows of one length, without padding."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def pack(
    batches: Iterable[Sequence[Sequence[int] | NDArray[np.uint16]]], capacity: int, buffer_size: int = 1000
) -> Iterator[NDArray[np.uint16]]:
    """Pack one epoch of documents into full rows, (capacity,) each, by best fit. Each document begins with BOS.

    This is the algorithm of `make_dataloader` in karpathy/autoresearch, prepare.py. Before each placement the buffer
    is refilled, one batch of documents at a time, to at least `buffer_size` documents. Then the longest document that
    fits into the rest of the row is placed. If none fits, the shortest is cropped to fill the row, and the rest of it
    is dropped. Of equally long documents the earliest goes first. The original then starts its next epoch; here the
    buffer is emptied after the last document, and a last row that is not full is dropped.
    """
    source = iter(batches)
    # The buffer, by length: a placement costs one bisection instead of buffer_size comparisons.
    waiting: dict[int, deque[Sequence[int] | NDArray[np.uint16]]] = {}
    lengths: list[int] = []  # the keys of `waiting`, sorted
    held = 0
    while True:
        row = np.empty(capacity, dtype=np.uint16)
        filled = 0
        while filled < capacity:
            while held < buffer_size and (arrived := next(source, None)) is not None:
                for document in arrived:
                    if len(document) not in waiting:
                        waiting[len(document)] = deque()
                        insort(lengths, len(document))
                    waiting[len(document)].append(document)
                held += len(arrived)
            if not held:
                return
            room = capacity - filled
            index = max(0, bisect_right(lengths, room) - 1)  # the longest that fits, else the shortest
            length = lengths[index]
            document = waiting[length].popleft()
            held -= 1
            if not waiting[length]:
                del waiting[length], lengths[index]
            row[filled : filled + length] = document[:room]
            filled += length
        yield row
