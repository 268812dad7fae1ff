"""Meter: what a run has spent of its budget."""

import pytest

from pytest_autoresearch.core.budget import Budget, Meter


def test_steps_tokens_and_flop_are_counted() -> None:
    for unit, spent in (("steps", 2), ("tokens", 20), ("flop", 900)):
        meter = Meter(Budget(1000, unit, 60, 180), 0.0)
        meter.start(1.0)
        meter.step(10, 400, 2.0)
        meter.step(10, 900, 3.0)
        assert meter.spent == spent


def test_seconds_leave_out_compilation_but_no_training() -> None:
    """The first step compiles for 20 s; every step trains for 1 s; the 15 s before the first batch are free."""
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(15.0)
    now = 15.0
    for step in range(20):
        now += 21.0 if step == 0 else 1.0
        meter.step(1000, 0, now)
    assert meter.spent == pytest.approx(20)


def test_a_giant_first_step_is_charged_by_its_tokens() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(1.0)
    meter.step(50_000, 0, 51.0)
    now = 51.0
    for _ in range(15):
        now += 1.0
        meter.step(1000, 0, now)
    assert meter.spent == pytest.approx(50 + 15)


def test_startup_beyond_the_free_part_is_charged() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(75.0)
    assert meter.spent == pytest.approx(15)


def test_work_after_the_last_step_is_charged() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(0.0)
    for step in range(30):
        meter.step(1000, 0, step + 1.0)
    assert not meter.overspent()
    meter.finish(0, 61.0)
    assert "spent 61 s of a budget of 30 s" in meter.overspent()


def test_batches_end_nearest_to_the_budget() -> None:
    meter = Meter(Budget(100, "flop", 60, 180), 0.0)
    steps = 0
    while meter.allows_step():
        steps += 1
        meter.step(1, 30 * steps, float(steps))
    assert steps == 3
    assert not meter.overspent()


def test_compilation_in_the_first_steps_neither_freezes_nor_jumps_the_progress() -> None:
    """Five steps of 10 s that compile, then steady ones of 0.1 s: what is spent hardly ever falls."""
    meter = Meter(Budget(60, "s", 100, 180), 0.0)
    meter.start(0.0)
    now, spent = 0.0, []
    for step in range(60):
        now += 10.0 if step < 5 else 0.1
        meter.step(1000, 0, now)
        spent.append(meter.spent)
    assert spent[-1] == pytest.approx(6.0)
    assert spent[10:] == sorted(spent[10:])


def test_a_big_batch_that_was_allowed_is_not_held_against_anyone() -> None:
    for tokens in range(200, 1000):
        meter = Meter(Budget(1536, "tokens", 60, 180), 0.0)
        while meter.allows_step():
            meter.step(tokens, 0, 1.0)
        assert not meter.overspent(), tokens


def test_one_giant_step_overspends() -> None:
    meter = Meter(Budget(100, "flop", 60, 180), 0.0)
    meter.step(1, 1000, 1.0)
    assert not meter.allows_step()
    assert meter.overspent()


def test_a_long_first_step_alone_neither_ends_a_short_run_nor_is_taken_for_progress() -> None:
    meter = Meter(Budget(20, "s", 120, 180), 0.0)
    meter.start(5.0)
    meter.step(1000, 0, 65.0)  # a minute of compilation
    assert meter.progress == 0
    assert meter.allows_step()
    meter.step(1000, 0, 66.0)
    assert meter.progress == pytest.approx(0.1)
    assert meter.free_seconds == pytest.approx(5 + 59)


def test_one_long_step_that_was_all_is_charged() -> None:
    meter = Meter(Budget(20, "s", 120, 180), 0.0)
    meter.start(5.0)
    meter.step(1000, 0, 65.0)
    meter.finish(0, 65.0)
    assert meter.spent == pytest.approx(60)
    assert meter.overspent()


def test_seconds_beyond_the_startup_are_charged_and_no_longer_free() -> None:
    meter = Meter(Budget(300, "s", 30, 600), 0.0)
    meter.start(20.0)
    for step in range(12):
        meter.step(1000, 0, 80.0 + step)
    assert meter.free_seconds == 30
    assert meter.spent == pytest.approx(12 + 20 + 59 - 30)


def test_a_program_that_asks_for_no_batch_is_charged_for_its_time() -> None:
    meter = Meter(Budget(300, "s", 120, 600), 0.0)
    meter.finish(0, 590.0)
    assert meter.spent == pytest.approx(470)
    assert meter.overspent()
