"""`Run`, what `train` receives, in this process: order of data, budgets, logging."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.candidate.run import Diverged, Run
from pytest_autoresearch.core.budget import Budget, Meter
from pytest_autoresearch.core.protocol import Logged, Message, Saved, Started, Stepped

LENGTH = 8


def make_run(budget: str = "10 steps", seed: int = 0, rows: int = 20) -> tuple[Run, list[Message]]:
    amount, unit = budget.split()
    said: list[Message] = []
    run = Run(
        device="cpu",
        seed=seed,
        vocab_size=1000,
        sequence_length=LENGTH,
        open_rows=lambda: np.arange(rows * (LENGTH + 1), dtype=np.uint16).reshape(rows, LENGTH + 1),
        meter=Meter(Budget(float(amount), unit, 60, 180), 0.0),
        count_flop=lambda: 0,
        send=said.append,
    )
    return run, said


def test_batches_are_int64_tokens_and_the_tokens_after_them() -> None:
    run, _ = make_run()
    for tokens, targets in run.batches(4):
        assert tokens.shape == targets.shape == (4, LENGTH)
        assert tokens.dtype == targets.dtype == torch.int64
        assert torch.equal(tokens[:, 1:], targets[:, :-1])
        assert (tokens[:, 0] % (LENGTH + 1) == 0).all()  # every row begins where a packed row begins


@given(rows=st.integers(1, 30), batch_size=st.integers(1, 70), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_every_epoch_is_a_permutation_of_the_rows(rows: int, batch_size: int, seed: int) -> None:
    run, _ = make_run(f"{math.ceil(3 * rows / batch_size) + 1} steps", seed, rows)
    seen = [int(row[0]) // (LENGTH + 1) for tokens, _ in run.batches(batch_size) for row in tokens]
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_the_order_follows_from_the_seed_alone() -> None:
    def order(seed: int, batch_size: int) -> list[int]:
        run, _ = make_run("6 steps", seed)
        return [int(t) for tokens, _ in run.batches(batch_size) for t in tokens[:, 0]]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(1, 3)
    assert order(0, 6)[:18] == order(0, 3)  # another batch size sees the same rows in the same order


@pytest.mark.parametrize("length", [1, 3, 7, 9, 30])
def test_other_lengths_are_cut_from_the_stream(length: int) -> None:
    run, _ = make_run("50 steps")
    for tokens, targets in run.batches(2, length):
        assert tokens.shape == (2, length)
        assert torch.equal(targets, tokens + 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0,), "batch_size is 0"), ((2.0,), "batch_size is 2.0"), ((2, 0.5), "sequence_length"), ((2, 9999), "from 1 to")],
)
def test_bad_arguments(arguments: tuple[Any, ...], words: str) -> None:
    run, _ = make_run()
    with pytest.raises(ValueError, match=words):
        next(run.batches(*arguments))


def test_progress_and_remaining() -> None:
    run, said = make_run("4 steps")
    progress = [run.progress for _ in run.batches(2)]
    assert progress == [0, 0.25, 0.5, 0.75]
    assert run.progress == 1
    assert run.remaining == 0
    assert isinstance(said[0], Started)
    assert len(set(said[0].rng_digest)) == 3
    assert said[1:] == [Stepped(2 * LENGTH, 0)] * 4


def test_a_second_loop_goes_on_with_the_budget() -> None:
    run, _ = make_run("6 steps")
    for step, _ in enumerate(run.batches(2)):
        if step == 1:
            break
    assert len(list(run.batches(2))) >= 3
    assert list(run.batches(2)) == []


def test_a_batch_taken_by_hand_is_charged_like_any_other() -> None:
    run, said = make_run("4 steps")
    for _ in range(4):
        next(run.batches(2))
    with pytest.raises(StopIteration):
        next(run.batches(2))
    assert said.count(Stepped(2 * LENGTH, 0)) == 4


def test_tokens_end_a_run_nearest_to_the_budget() -> None:
    run, _ = make_run("100 tokens")
    assert len(list(run.batches(2))) == 6  # 96 tokens; a seventh step would end at 112


def carelessly(action: Callable[[], None]) -> None:
    with suppress(Exception):
        action()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_even_in_a_careless_program(loss: float) -> None:
    run, said = make_run()
    with pytest.raises(Diverged):
        carelessly(lambda: run.log(torch.tensor(loss, requires_grad=True)))
    assert isinstance(said[-1], Logged)


def test_log_takes_numbers_and_tensors() -> None:
    run, said = make_run()
    run.log(2.5, rate=torch.tensor(0.25))
    assert said == [Logged(2.5, {"rate": 0.25})]


def test_a_file_is_handed_over_in_parts() -> None:
    run, said = make_run()
    data = bytes(range(256)) * 5000
    run.save("weights.pt", data)
    run.save("empty", bytearray())
    parts = [message for message in said if isinstance(message, Saved)]
    assert b"".join(part.data for part in parts) == data
    assert [(part.name, part.first) for part in parts] == [
        ("weights.pt", True),
        ("weights.pt", False),
        ("weights.pt", False),
        ("empty", True),
    ]


def test_what_cannot_be_saved_is_said_before_any_of_it_is_sent() -> None:
    run, said = make_run()
    run.save("half", bytes(8_000_000))
    said.clear()
    with pytest.raises(ValueError, match="cannot save 'rest': 8,000,001 bytes more than the 8,000,000 before"):
        run.save("rest", bytes(8_000_001))
    with pytest.raises(ValueError, match=r"cannot save '../x': a name has"):
        run.save("../x", b"")
    with pytest.raises(TypeError, match="the data must be bytes, not str"):
        run.save("x", "text")  # type: ignore[arg-type]
    run._close()
    with pytest.raises(ValueError, match="`train` has returned"):
        run.save("x", b"")
    assert said == []


def test_the_old_place_of_run_still_works() -> None:
    from pytest_autoresearch import Run as new
    from pytest_autoresearch.run import Run as old

    assert old is new is Run
