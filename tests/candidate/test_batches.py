"""Batches ahead of time: the right rows, in order, however the reader behaves."""

import gc
import threading
import time
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.candidate.batches import AHEAD, feed

ROWS = np.random.default_rng(0).integers(0, 2**16, (50, 9), dtype=np.uint16)
CPU = torch.device("cpu")


@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=7), max_size=8))
@settings(max_examples=50, deadline=None)
def test_each_pick_comes_whole_and_in_order(picks: list[list[int]]) -> None:
    batches = list(feed(ROWS, [np.array(pick) for pick in picks], CPU))
    assert [batch.tolist() for batch in batches] == [ROWS[pick].tolist() for pick in picks]
    assert all(batch.dtype == torch.int64 for batch in batches)


def test_tokens_beyond_32767_are_no_negative_numbers() -> None:
    rows = np.array([[0, 32767, 32768, 65535]], dtype=np.uint16)
    assert next(feed(rows, [np.array([0])], CPU)).tolist() == [[0, 32767, 32768, 65535]]


def test_strided_windows_are_read_as_they_are() -> None:
    windows = np.lib.stride_tricks.sliding_window_view(ROWS.reshape(-1), 5)[::4]
    batch = next(feed(windows, [np.array([0, 3, 100])], CPU))
    assert batch.tolist() == windows[[0, 3, 100]].tolist()


def test_a_fixed_number_of_picks_is_drawn_ahead() -> None:
    drawn = []

    def picks():  # type: ignore[no-untyped-def]
        for number in count():
            drawn.append(number)
            yield np.array([number % 50])

    batches = feed(ROWS, picks(), CPU)
    for number in range(5):
        next(batches)
        time.sleep(0.02)
        assert drawn == list(range(number + 1 + AHEAD))


def test_a_row_that_is_not_there_is_the_readers_error() -> None:
    batches = feed(ROWS, [np.array([0]), np.array([50])], CPU)
    assert next(batches).shape == (1, 9)
    with pytest.raises(IndexError):
        next(batches)


def test_no_thread_is_left_behind() -> None:
    for _ in range(5):
        next(feed(ROWS, (np.array([0]) for _ in count()), CPU))
    gc.collect()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("batches") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    draw = np.random.default_rng(1)
    rows = draw.integers(0, 2**16, (5000, 2049), dtype=np.uint16)
    picks = [draw.integers(0, 5000, 64) for _ in range(200)]
    busy = torch.randn(4096, 4096, device="cuda")
    for pick, batch in zip(picks, feed(rows, picks, torch.device("cuda")), strict=True):
        busy = busy @ busy * 1e-3  # so that copies and reads of a batch do overlap with work
        assert batch.is_cuda
        assert np.array_equal((batch + 0).cpu().numpy(), rows[pick])
