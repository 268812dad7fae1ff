"""Meter: what a run has spent of its budget."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def drawn(budget: str, costs: Sequence[int], tokens: Sequence[int] = (1,), **settings: Any) -> tuple[Meter, int]:
    """A meter of a run whose steps cost so much, one after the other, and how many batches it got."""
    amount, unit = budget.split()
    meter, flop = Meter(Budget(float(amount), unit, 60, 180), 0.0, **settings), 0
    for number, cost in enumerate(costs):
        if not meter.draw(tokens[number % len(tokens)], flop, float(number)):
            break
        flop += cost
    return meter, meter.steps


def test_batches_end_nearest_to_the_budget() -> None:
    meter, steps = drawn("100 flop", [30] * 9)
    assert steps == 3
    meter, steps = drawn("1000 flop", [7] * 200)
    assert steps == 143  # 1001: nearer than 994
    meter.finish(1001, 200.0)
    assert not meter.overspent()


def test_a_step_counts_as_the_dearest_of_the_last_ones_by_its_tokens() -> None:
    assert drawn("1000 flop", [10, 10, 10, 90] * 20)[1] == 32  # 960; another might end at 1050
    assert drawn("1000 flop", [10, 20] * 99, tokens=[1, 2])[1] == 67  # 990, and ten for one more token
    assert drawn("1000 flop", [500] + [10] * 99)[1] == 51  # one dear step is no rule


def test_work_after_the_last_batch_costs_at_most_half_a_step() -> None:
    for after, allowed in ((5, True), (6, False)):
        meter, steps = drawn("1000 flop", [10] * 200)
        assert (steps, meter.spent) == (100, 1000)
        meter.finish(1000 + after, 300.0)
        assert bool(meter.overspent()) != allowed
    assert meter.overspent() == "spent 1006 flop of a budget of 1000 flop, in 100 steps, 6 of it after the last batch"


def test_half_of_a_giant_step_is_too_much() -> None:
    meter, _ = drawn("1000 flop", [400, *[10] * 200])
    meter.finish(int(meter.spent) + 11, 300.0)
    assert meter.overspent()


def test_who_leaves_the_loop_early_may_use_the_rest() -> None:
    for after, allowed in ((505, True), (506, False)):
        meter, _ = drawn("1000 flop", [10] * 51)
        meter.finish(500 + after, 300.0)
        assert bool(meter.overspent()) != allowed


def test_the_last_step_may_cost_a_little_more_than_expected() -> None:
    for last, allowed in ((19, True), (41, False)):
        meter, steps = drawn("1000 flop", [10] * 99 + [last, 0])
        meter.finish(int(meter.spent), 300.0)
        assert steps == 100
        assert bool(meter.overspent()) != allowed


def test_asking_again_and_again_buys_nothing() -> None:
    meter, _ = drawn("1000 flop", [10] * 200)
    for extra in range(1, 50):
        assert not meter.draw(1, 1000 + extra, 300.0)
    meter.finish(1049, 300.0)
    assert meter.overspent()


def test_a_smaller_batch_may_still_fit() -> None:
    meter, _ = drawn("1000 flop", [90] * 20, tokens=[9])
    assert meter.spent == 990
    assert meter.draw(1, 990, 30.0)
    assert not meter.draw(1, 1000, 31.0)


@pytest.mark.parametrize("budget", ["7 steps", "70 tokens", "1e9 flop"])
def test_tokens_end_a_run_that_reads_more_than_it_may(budget: str) -> None:
    meter, steps = drawn(budget, [0] * 20, tokens=[10], token_limit=45)
    assert (steps, meter.tokens, meter.progress) == (4, 40, 40 / 45)
    assert meter.refused_for_tokens
    assert not drawn("100 flop", [10] * 20, tokens=[10], token_limit=1000)[0].refused_for_tokens


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
        meter, _ = drawn("1536 tokens", [0] * 20, tokens=[tokens])
        meter.finish(0, 30.0)
        assert not meter.overspent(), tokens


@given(st.lists(st.integers(1, 60), min_size=30, max_size=300), st.integers(0, 3))
def test_what_an_honest_run_spends_is_near_its_budget(costs: list[int], growth: int) -> None:
    """Whatever steps cost, as long as it grows with their tokens, no run is told that it has spent too much."""
    meter, flop = Meter(Budget(1000, "flop", 60, 180), 0.0), 0
    for number, tokens in enumerate(costs):
        if not meter.draw(tokens, flop, float(number)):
            break
        flop += 3 * tokens
    meter.finish(flop, 400.0)
    assert not meter.overspent()


def test_one_giant_step_overspends() -> None:
    meter = Meter(Budget(100, "flop", 60, 180), 0.0)
    meter.step(1, 1000, 1.0)
    assert not meter.allows_step(1)
    assert meter.overspent()


def test_a_long_first_step_alone_neither_ends_a_short_run_nor_is_taken_for_progress() -> None:
    meter = Meter(Budget(20, "s", 120, 180), 0.0)
    meter.start(5.0)
    meter.step(1000, 0, 65.0)  # a minute of compilation
    assert meter.progress == 0
    assert meter.allows_step(1000)
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
