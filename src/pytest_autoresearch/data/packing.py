"""Packing: documents of any length to rows of one length, without padding."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def pack(
    batches: Iterable[Sequence[Sequence[int] | NDArray[np.uint16]]], capacity: int, buffer_size: int = 1000
) -> Iterator[NDArray[np.uint16]]:
    """Best-fit packing of one epoch of documents (each non-empty, BOS in front) into full rows, (capacity,) each.

    The algorithm of `make_dataloader` in karpathy/autoresearch, prepare.py: before every placement the buffer is
    refilled, a batch of documents at a time, to at least `buffer_size`; then the longest document that still fits is
    placed, and where none fits the shortest is cropped to fill the row and its rest is dropped. Among equally long
    documents the earliest goes first. At the end of the documents, where the original begins its next epoch, the
    buffer is used up; a last row that it cannot fill is dropped.
    """
    source = iter(batches)
    # The buffer, by length: the plain scan costs buffer_size comparisons a placement, this one bisection.
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
