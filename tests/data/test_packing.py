"""data/packing.py against the plain algorithm, token for token."""

import random
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.data.packing import pack


def plain_pack(documents, capacity, buffer_size, batch):
    """Best-fit packing as one would write it down: a list for a buffer, scanned for every placement."""
    source, buffer, rows = iter(documents), [], []
    while True:
        row = []
        while len(row) < capacity:
            while len(buffer) < buffer_size:
                arrived = list(islice(source, batch))
                if not arrived:
                    break
                buffer.extend(arrived)
            if not buffer:
                return rows
            room = capacity - len(row)
            best = None
            for i, document in enumerate(buffer):
                if len(document) <= room and (best is None or len(document) > len(buffer[best])):
                    best = i
            if best is None:
                best = min(range(len(buffer)), key=lambda i: len(buffer[i]))
            row += buffer.pop(best)[:room]
        rows.append(row)


def numbered(lengths):
    """Documents of these lengths whose tokens are all different, so that equal rows are the same documents."""
    start = 0
    for length in lengths:
        yield [token % 65_536 for token in range(start, start + length)]
        start += length


def in_batches(documents, batch=128):
    source = iter(documents)
    return iter(lambda: list(islice(source, batch)), [])


@given(
    lengths=st.lists(st.integers(1, 40), max_size=120),
    capacity=st.integers(1, 33),
    buffer_size=st.integers(1, 20),
    batch=st.integers(1, 9),
)
def test_rows_equal_those_of_the_plain_algorithm(lengths, capacity, buffer_size, batch):
    rows = list(pack(in_batches(numbered(lengths), batch), capacity, buffer_size))
    assert [row.tolist() for row in rows] == plain_pack(numbered(lengths), capacity, buffer_size, batch)


def test_rows_equal_those_of_the_plain_algorithm_at_full_size():
    chance = random.Random(0)
    documents = list(numbered(min(400, 1 + int(chance.expovariate(1 / 60))) for _ in range(4000)))
    rows = list(pack(in_batches(np.array(document, dtype=np.uint16) for document in documents), 129))
    assert [row.tolist() for row in rows] == plain_pack(documents, 129, buffer_size=1000, batch=128)
    assert all(row.dtype == np.uint16 and row.shape == (129,) for row in rows)


def test_pieces_that_fill_a_row_are_kept_whole_in_order():
    documents = list(numbered([129] * 3000))
    assert [row.tolist() for row in pack(in_batches(documents), 129)] == documents


def test_rows_do_not_share_memory():
    first, second = islice(pack(in_batches(numbered([4] * 8)), 4), 2)
    assert not np.shares_memory(first, second)


def test_documents_are_drawn_only_as_needed():
    drawn = []
    documents = (drawn.append(1) or document for document in numbered([4] * 100))
    next(pack(in_batches(documents, 3), 4, buffer_size=10))
    assert len(drawn) == 12


def test_nothing_gives_nothing():
    assert list(pack([], 8)) == []
    assert list(pack([[[1, 2, 3]]], 8)) == []
