"""The referee's side of a run, message by message, without a process: what it takes, and what ends the run."""

import math
import signal
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_project import BASELINE

from pytest_autoresearch.core.budget import Budget
from pytest_autoresearch.core.protocol import (
    Answered,
    Ask,
    Batch,
    Draw,
    Logged,
    Message,
    Raised,
    Saved,
    Started,
    Trained,
    encode,
)
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee import process
from pytest_autoresearch.referee.executor import JobSpec, RunProgress
from pytest_autoresearch.referee.failures import Failed
from pytest_autoresearch.referee.job import LocalJob
from pytest_autoresearch.referee.process import Candidate, MemoryExceeded, ProcessExited
from pytest_autoresearch.referee.run import Referee
from pytest_autoresearch.referee.run_files import SavedFiles
from pytest_autoresearch.referee.usage import Usage

ROWS = np.arange(45, dtype=np.uint16).reshape(5, 9)
START = Started(["a", "b", "c"])


def make_referee(budget: str = "10 steps", **spec: Any) -> tuple[Referee, list[RunProgress]]:
    amount, unit = budget.split()
    track: Any = SimpleNamespace(device="cpu", budget=Budget(float(amount), unit, 60, 180), memory=None)
    data: Any = SimpleNamespace(train_rows=ROWS)
    seen: list[RunProgress] = []
    job = LocalJob(JobSpec(BASELINE, 0, track, "key", "results/run", **spec), data, Path("nowhere"))
    return Referee(job, seen.append), seen


def handle(referee: Referee, *messages: Message) -> list[tuple[bytes, float]]:
    """The answers to draws among the messages: tokens and progress."""
    answers = []
    for seconds, message in enumerate(messages):
        if isinstance(message, Draw):
            answers.append((referee._draw(message, referee._began + seconds), referee._meter.progress))
        else:
            referee._handle_message(message, referee._began + seconds)
    return answers


def result(referee: Referee) -> Any:
    return referee._result(Usage(cpu=1.5, memory=2 * 10**9), None, None)


def test_training_is_measured_and_shown() -> None:
    referee, seen = make_referee()
    referee._show()
    handle(referee, START, Draw(8, 8, 0), Logged(3.0), Draw(8, 8, 5))
    handle(referee, Logged(2.0, {"rate": 0.5, "scale": math.inf}), Draw(8, 8, 9))
    referee._show()
    handle(referee, Trained(12, 0))
    got = result(referee)
    assert (got.steps, got.tokens, got.flop, got.spent) == (3, 192, 12, 3)
    assert (got.rng_digest, got.scalars, got.cpu_seconds) == (["a", "b", "c"], {"rate": 0.5, "scale": None}, 1.5)
    assert [got.curve[0], got.curve[10], got.memory_gb] == [3.0, 2.0, 2.0]
    assert [progress.stage for progress in seen] == ["starting", "training"]
    assert (seen[1].done, seen[1].loss, seen[1].tokens_per_second) == (0.2, 2.0, pytest.approx(128))
    assert seen[1].seconds_left == pytest.approx(4)


def test_a_million_losses_take_no_room() -> None:
    referee, _ = make_referee()
    handle(referee, START)
    tracemalloc.start()
    for number in range(10_000):
        handle(referee, Logged(number + 0.5))
    assert tracemalloc.get_traced_memory()[0] < 20_000
    tracemalloc.stop()
    assert result(referee).curve[0] == 5_000


@pytest.mark.parametrize(
    ("message", "outcome", "reason"),
    [
        (START, Outcome.DISQUALIFIED, "sent an unexpected message: Started("),
        (Draw(1, 8, 4), Outcome.DISQUALIFIED, "sent an unexpected message: Draw("),
        (
            Draw(0, 8, 5),
            Outcome.DISQUALIFIED,
            "asked for a batch that `run.batches` would not ask for: batch_size is 0",
        ),
        (Batch(0, 1.0), Outcome.DISQUALIFIED, "sent an unexpected message: Batch("),
        (Trained(4, 0), Outcome.DISQUALIFIED, "sent an unexpected message: Trained("),
        (Answered(5, 0, "float32"), Outcome.DISQUALIFIED, "sent an unexpected message: Answered("),
        (Ask(), Outcome.DISQUALIFIED, "sent an unexpected message: Ask()"),
        (
            Saved("../x", b"", True),
            Outcome.DISQUALIFIED,
            "sent a file that `run.save` would not send: cannot save '../x'",
        ),
        (Logged(math.nan), Outcome.DIVERGED, "loss is nan in step 2"),
        (Logged(-math.inf), Outcome.DIVERGED, "loss is -inf in step 2"),
        (Raised("Diverged", "loss is nan", ""), Outcome.DIVERGED, "loss is nan"),
        (Raised("ValueError", "ValueError: a \x1b", "its lines"), Outcome.CRASHED, "ValueError: a \ufffd"),
        (
            Raised("MemoryError", "Unable to allocate 3 GiB", ""),
            Outcome.OUT_OF_MEMORY,
            "3.2 GB asked; lower BATCH_SIZE",
        ),
    ],
)
def test_what_ends_a_run(message: Message, outcome: Outcome, reason: str) -> None:
    referee, _ = make_referee()
    handle(referee, START, Draw(1, 8, 0), Draw(1, 8, 5))
    with pytest.raises(Failed) as failed:
        handle(referee, message)
    assert failed.value.outcome == outcome
    assert failed.value.reason.startswith(reason)


def test_batches_come_until_the_referees_own_meter_says_that_the_budget_is_spent() -> None:
    referee, _ = make_referee("100 flop")
    answers = handle(referee, START, *(Draw(2, 8, 30 * step) for step in range(5)))
    assert [len(rows) for rows, _ in answers] == [36, 36, 36, 0, 0]
    assert [progress for _, progress in answers] == [0, 0.3, 0.6, 0.9, 1.0]
    rows = np.frombuffer(b"".join(rows for rows, _ in answers), np.uint16).reshape(-1, 9)
    assert sorted(rows[:5, 0] // 9) == list(range(5))  # an epoch


def test_reading_ends_with_the_tokens_that_a_run_may_draw() -> None:
    referee, _ = make_referee("100 flop", token_limit=40)
    answers = handle(referee, START, *(Draw(2, 8, 0) for _ in range(4)), Draw(1, 8, 0))
    assert [bool(rows) for rows, _ in answers] == [True, True, False, False, True]
    assert result(referee).tokens <= 40


def test_a_batch_before_the_start_is_refused() -> None:
    referee, _ = make_referee("10 s")
    with pytest.raises(Failed, match="sent an unexpected message: Draw"):
        handle(referee, Draw(1, 8, 5))


@pytest.mark.parametrize(
    ("used", "outcome"),
    [((90.0, 0.5), None), ((101.0, 0.0), Outcome.TIMED_OUT), ((5.0, 1.1), Outcome.DISQUALIFIED)],
)
def test_cpu_seconds_are_bounded_where_flop_are_the_budget(used: tuple[float, float], outcome: Outcome | None) -> None:
    usage = Usage(cpu=used[0], cpu_of_others=used[1])
    make_referee("10 steps", cpu_limit=1.0)[0]._check_cpu(usage)  # not of this budget's concern
    referee, _ = make_referee("1e9 flop", cpu_limit=100.0)
    if outcome is None:
        referee._check_cpu(usage)
        return
    with pytest.raises(Failed) as failed:
        referee._check_cpu(usage)
    assert failed.value.outcome == outcome


# -- how a process ends --


def ended(code: int, sandboxed: bool = False, kills: int = 0) -> Any:
    """What is raised for a process that has ended so; `kills` more than at its start were for memory."""
    candidate: Any = SimpleNamespace(
        _process=SimpleNamespace(returncode=code),
        _log=SimpleNamespace(last_lines=lambda: "last words"),
        _sandboxed=sandboxed,
        _out_of_memory_kills=process.out_of_memory_kills() - kills,
        _tree=SimpleNamespace(usage=Usage(memory=3 * 10**9)),
    )
    with pytest.raises((ProcessExited, MemoryExceeded)) as raised:
        Candidate._raise_how_it_ended(candidate)
    return raised.value


@pytest.mark.parametrize(
    ("name", "interrupted"),
    [("KILL", True), ("TERM", True), ("INT", True), ("HUP", True), ("PIPE", True)]
    + [(name, False) for name in ("SEGV", "ABRT", "BUS", "FPE", "ILL")],
)
def test_a_signal_that_may_come_from_outside_is_an_interruption(name: str, interrupted: bool) -> None:
    number = getattr(signal, f"SIG{name}")
    for error in (ended(-number), ended(128 + number, sandboxed=True)):
        assert str(error) == f"killed by SIG{name}"
        assert (error.interrupted, error.last_lines) == (interrupted, "last words")
    failed = make_referee()[0]._failure(ended(-number))
    assert (failed.outcome, failed.detail, failed.interrupted) == (Outcome.CRASHED, "last words", interrupted)
    scoring = make_referee()[0]
    scoring._stage = "scoring"  # from then on a program may know its score, and could choose a second try
    assert not scoring._failure(ended(-number)).interrupted


def test_an_exit_and_a_kill_for_memory_are_no_interruptions() -> None:
    assert str(ended(3)) == "the process ended itself with exit code 3"
    assert str(ended(200)) == str(ended(200, sandboxed=True)) == "the process ended itself with exit code 200"
    assert not ended(0).interrupted
    failed = make_referee()[0]._failure(ended(-signal.SIGKILL, kills=1))
    assert failed.outcome == Outcome.OUT_OF_MEMORY
    assert failed.reason == "3 GB used when the system ran out of memory; lower BATCH_SIZE or the model"
    assert not failed.interrupted


def test_a_time_out_says_where() -> None:
    referee, _ = make_referee()
    assert referee._failure(TimeoutError()).reason == "still starting after 180 s"
    handle(referee, START, Draw(1, 8, 0), Draw(1, 8, 0))
    failed = referee._failure(TimeoutError())
    assert (failed.outcome, failed.reason) == (Outcome.TIMED_OUT, "still training (10% of the budget) after 180 s")


@pytest.mark.parametrize(
    ("deadline", "limit", "error"), [(0.0, None, TimeoutError), (math.inf, 1.0, MemoryExceeded), (math.inf, None, None)]
)
def test_a_candidate_that_is_never_silent_has_the_same_limits(
    deadline: float, limit: float | None, error: type[Exception] | None
) -> None:
    candidate: Any = object.__new__(Candidate)
    candidate._lines, candidate._deadline, candidate._memory_limit, candidate._looked = (
        [encode(Ask())],
        deadline,
        limit,
        0,
    )
    candidate._tree = SimpleNamespace(look=lambda full: Usage(memory=2))
    if error is None:
        assert candidate.receive() == Ask()
        return
    with pytest.raises(error):
        candidate.receive()


# -- files that are handed over --


def test_parts_of_files_may_mix_and_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    files = SavedFiles()
    for name, data, first in [("a", b"1", True), ("b", b"2", True), ("a", b"3", False), ("b", b"4", True)]:
        files.add(Saved(name, data, first))
    files.write(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == {"a": b"13", "b": b"4"}
    SavedFiles().write(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_file_begins_with_its_beginning() -> None:
    files = SavedFiles()
    with pytest.raises(ValueError, match="'a' has no beginning"):
        files.add(Saved("a", b"1", False))


def test_what_is_forged_never_takes_more_than_a_run_may_save() -> None:
    files = SavedFiles()
    files.add(Saved("a", b"", True))
    for _ in range(32):
        files.add(Saved("a", bytes(500_000), False))
    with pytest.raises(ValueError, match="at most 16,000,000"):
        files.add(Saved("a", b"x", False))
