"""`Run`, what `train` receives, in this process: order of data, budgets, logging."""

import math
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from direct_run import direct_run

from pytest_autoresearch.candidate.run import Diverged, Run
from pytest_autoresearch.core.protocol import MAX_BATCH, Draw, Logged, Message, Saved, Started

LENGTH = 8


def make_run(budget: str = "10 steps", seed: int = 0, rows: int = 20) -> tuple[Run, list[Message]]:
    said: list[Message] = []
    text = np.arange(rows * (LENGTH + 1), dtype=np.uint16).reshape(rows, LENGTH + 1)
    return direct_run(text, budget, seed=seed, send=said.append), said


def test_batches_are_int64_tokens_and_the_tokens_after_them() -> None:
    run, _ = make_run()
    for tokens, targets in run.batches(4):
        assert tokens.shape == targets.shape == (4, LENGTH)
        assert tokens.dtype == targets.dtype == torch.int64
        assert torch.equal(tokens[:, 1:], targets[:, :-1])
        assert (tokens[:, 0] % (LENGTH + 1) == 0).all()  # every row begins where a packed row begins


def test_the_order_follows_from_the_seed_alone() -> None:
    def order(seed: int, batch_size: int) -> list[int]:
        run, _ = make_run("6 steps", seed)
        return [int(t) for tokens, _ in run.batches(batch_size) for t in tokens[:, 0]]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(1, 3)
    assert order(0, 6)[:18] == order(0, 3)  # another batch size sees the same rows in the same order


@pytest.mark.parametrize("length", [1, 9, 30])
def test_other_lengths_are_cut_from_the_stream(length: int) -> None:
    run, _ = make_run("50 steps")
    for tokens, targets in run.batches(2, length):
        assert tokens.shape == (2, length)
        assert torch.equal(targets, tokens + 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "batch_size is 0"),
        ((2.0,), "batch_size is 2.0"),
        ((2, 0.5), "sequence_length is 0.5"),
        ((2, 9999), "a whole number from 1 to 179"),
        ((MAX_BATCH,), "a batch of 4194304 × 8 tokens; it may have at most 4,194,304"),
    ],
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
    assert said[1:] == [Draw(2, LENGTH, 0)] * 5


def test_progress_follows_the_tokens_where_they_end_the_run() -> None:
    rows = np.zeros((20, LENGTH + 1), dtype=np.uint16)
    run = direct_run(rows, "1e9 flop", token_limit=5 * 2 * LENGTH)
    assert [run.progress for _ in run.batches(2)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert run.remaining == 0


def test_tokens_beyond_32767_are_no_negative_numbers() -> None:
    rows = np.array([[0, 32767, 32768, 65535]] * 3, dtype=np.uint16)
    tokens, targets = next(direct_run(rows).batches(1))
    assert (tokens.tolist(), targets.tolist()) == ([[0, 32767, 32768]], [[32767, 32768, 65535]])


def test_a_batch_may_be_changed_without_harm() -> None:
    run, _ = make_run("40 steps", rows=2)
    for tokens, targets in run.batches(2):
        assert torch.equal(targets, tokens + 1)
        tokens.zero_()


def test_a_first_batch_that_is_too_large_ends_nothing() -> None:
    said: list[Message] = []
    run = direct_run(np.zeros((20, LENGTH + 1), dtype=np.uint16), "1e9 flop", token_limit=40, send=said.append)
    assert list(run.batches(6)) == []
    assert len(list(run.batches(5))) == 1
    assert sum(isinstance(message, Started) for message in said) == 1


def test_a_loop_that_is_left_over_ends_when_training_has() -> None:
    run, said = make_run()
    batches = run.batches(2)
    next(batches)
    run._close()
    said.clear()
    assert list(batches) == []
    assert said == []


def test_the_host_is_never_more_than_two_steps_ahead_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stream that only notes what is recorded and waited for."""
    run, did = make_run("100 steps")[0], []

    class Event:
        def __init__(self, step: int) -> None:
            self.step = step

        def synchronize(self) -> None:
            did.append(self.step)

    stream = SimpleNamespace(record_event=lambda: Event(run._batches))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr("pytest_autoresearch.candidate.run.finish_queue", lambda device: did.append(run._batches))
    run._device = torch.device("cuda")
    for run._batches in range(16):
        run._keep_pace()
    assert did == [*range(11), 11, 12, 13]  # the first ten steps one by one, then two steps later


@pytest.mark.gpu
def test_on_a_gpu_the_host_is_never_far_ahead_and_batches_are_whole() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rows = np.random.default_rng(1).integers(0, 2**16, (500, 2049), dtype=np.uint16)
    busy = torch.randn(4096, 4096, device="cuda")
    known = {row.tobytes() for row in rows}
    run = direct_run(rows, "60 steps", device="cuda")
    for tokens, targets in run.batches(64):
        for _ in range(20):
            busy = busy @ busy * 1e-3
        whole = torch.cat([tokens, targets[:, -1:]], 1).cpu().numpy().astype(np.uint16)
        assert all(row.tobytes() in known for row in whole)
        assert len(run._queued) <= 2
    assert len(run._queued) == 2


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
    assert said.count(Draw(2, LENGTH, 0)) == 5


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
