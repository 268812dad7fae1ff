"""Batches as the referee draws them: the right rows, in order, and no more than fit into memory."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.referee.batches import Batches

LENGTH = 8


def text(rows: int = 20) -> np.ndarray:
    return np.arange(rows * (LENGTH + 1), dtype=np.uint16).reshape(rows, LENGTH + 1)


@given(rows=st.integers(1, 30), batch_size=st.integers(1, 70), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_every_epoch_is_a_permutation_of_the_rows(rows: int, batch_size: int, seed: int) -> None:
    batches = Batches(text(rows), seed)
    drawn = [batches.draw(batch_size, LENGTH) for _ in range(math.ceil(3 * rows / batch_size))]
    seen = [int(row[0]) // (LENGTH + 1) for batch in drawn for row in batch]
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@pytest.mark.parametrize("length", [1, 3, 7, 9, 30])
def test_other_lengths_are_cut_from_the_stream(length: int) -> None:
    batches = Batches(text(), 0)
    count = (text().size - 1) // length
    starts = sorted(int(batches.draw(1, length)[0, 0]) for _ in range(count))
    assert starts == list(range(0, count * length, length))


def test_a_change_of_length_begins_a_new_epoch_and_the_way_back_too() -> None:
    batches = Batches(text(), 0)
    for length in (LENGTH, 4, LENGTH):
        drawn = batches.draw(20, length)
        assert drawn.shape == (20, length + 1)
        assert len({int(row[0]) for row in drawn}) == 20
        assert (drawn[:, 0] % (length + (length == LENGTH)) == 0).all()


@pytest.mark.parametrize(("batch_size", "length"), [(0, 8), (1, 0), (1, 180), (2**62, 8), (2**19 + 1, 8)])
def test_what_run_batches_would_not_ask_for_is_refused(batch_size: int, length: int) -> None:
    with pytest.raises(ValueError, match=r"batch_size|sequence_length|tokens"):
        Batches(text(), 0).draw(batch_size, length)


def test_very_short_sequences_are_refused_for_their_permutation_would_be_huge() -> None:
    rows = np.zeros((10, 129), dtype=np.uint16)
    with pytest.raises(ValueError, match="sequence_length is 7; it must be a whole number from 8 to 1289"):
        Batches(rows, 0).draw(1, 7)


def test_a_batch_takes_no_more_memory_than_itself() -> None:
    rows = np.zeros((5_000, 129), dtype=np.uint16)
    batches = Batches(rows, 0)
    batches.draw(1, 8)
    tracemalloc.start()
    batches.draw(1_000, 8)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000  # its 18,000 bytes, and the numbers of 80,000 sequences
    tracemalloc.stop()
