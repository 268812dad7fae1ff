"""Limits, pauses and signals of a loop: numbers in, words out."""

import os
import signal

import pytest
from fakes import verdict_of

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.stopping import Tally
from pytest_autoresearch.loop.backoff import Backoff
from pytest_autoresearch.loop.limits import Spending, agents_to_ask, room_for_judging, stop_reason
from pytest_autoresearch.loop.options import LoopOptions
from pytest_autoresearch.loop.signals import Signals

ALL = LoopOptions(experiments=12, hours=8.0, until=1.95, patience=10)


@pytest.mark.parametrize(
    ("hours", "trained", "tally", "record", "reason"),
    [
        (7.99, 11, Tally(9, 1.951), 1.951, ""),
        (0.0, 12, Tally(), 2.0, "--experiments 12 have a verdict"),
        (8.0, 0, Tally(), 2.0, "--hours 8 have passed"),
        (0.0, 0, Tally(), 1.95, "--until 1.95 is reached by the baseline, 1.9500"),
        (0.0, 0, Tally(0, 1.94), 2.0, "--until 1.95 is reached, 1.9400"),
        (0.0, 0, Tally(10), None, "--patience 10 verdicts without a keep"),
    ],
)
def test_a_limit_says_why_it_ends(hours: float, trained: int, tally: Tally, record: float | None, reason: str) -> None:
    assert stop_reason(ALL, hours, trained, tally, record) == reason
    assert stop_reason(LoopOptions(), hours, trained, tally, record) == ""


def test_replays_are_no_verdicts_without_a_keep() -> None:
    """Of the loop as of one session."""
    tally = Tally(9).plus(verdict_of(replayed=True)).plus(verdict_of(outcome=Outcome.TRIED))
    assert stop_reason(ALL, 0, 0, tally, None) == ""
    assert stop_reason(ALL, 0, 0, tally.plus(verdict_of()), None)


@pytest.mark.parametrize(
    ("ahead", "agents", "judging", "waiting", "at_work", "more"),
    [
        (2, 1, 1, 1, 0, 1),
        (2, 1, 1, 2, 0, 0),  # enough wait
        (2, 1, 1, 0, 1, 0),  # the only agent is at work
        (2, 4, 1, 1, 1, 3),
        (0, 1, 0, 0, 0, 1),
        (0, 1, 1, 0, 0, 0),
        (0, 1, 0, 1, 0, 0),
        (5, 2, 0, 4, 0, 2),
    ],
)
def test_agents_to_ask(ahead: int, agents: int, judging: int, waiting: int, at_work: int, more: int) -> None:
    options = LoopOptions(ahead=ahead, agents=agents)
    assert agents_to_ask(options, 0, judging, waiting, at_work) == more


@pytest.mark.parametrize(
    ("trained", "judging", "waiting", "at_work", "more"),
    [(0, 0, 0, 0, 4), (9, 0, 0, 0, 1), (8, 1, 1, 0, 0), (7, 1, 0, 1, 1), (10, 0, 0, 0, 0)],
)
def test_agents_are_asked_for_no_more_than_is_needed(
    trained: int, judging: int, waiting: int, at_work: int, more: int
) -> None:
    assert agents_to_ask(LoopOptions(experiments=10, agents=4), trained, judging, waiting, at_work) == more


@pytest.mark.parametrize(
    ("workers", "experiments", "trained", "judging", "has_record", "room"),
    [
        (3, None, 0, 1, True, 2),
        (3, None, 0, 0, False, 1),
        (3, None, 0, 1, False, 0),
        (3, 5, 3, 1, True, 1),
        (3, 5, 4, 1, True, 0),
        (3, 5, 6, 1, True, 0),
    ],
)
def test_room_for_judging(
    workers: int, experiments: int | None, trained: int, judging: int, has_record: bool, room: int
) -> None:
    options = LoopOptions(workers=workers, experiments=experiments)
    assert room_for_judging(options, trained, judging, has_record) == room


def test_money_is_counted_and_rounds_that_say_nothing_count_as_the_dearest() -> None:
    nothing = Spending()
    assert nothing.dollars is None
    spent = nothing.plus(0.5).plus(0.1).plus(None)
    assert spent.dollars == pytest.approx(0.6)
    assert spent.charged == pytest.approx(1.1)
    assert spent.reason(1.2) == ""
    assert spent.reason(1.1) == "--cost 1.1 is spent, $1.10"
    assert spent.reason(None) == ""


def test_agents_at_once_do_not_spend_more_than_the_limit() -> None:
    spent = Spending().plus(0.5)
    assert spent.allows_another(1.2, at_work=1)
    assert not spent.allows_another(1.2, at_work=2)
    assert spent.allows_another(None, at_work=99)
    assert Spending().allows_another(0.01, at_work=3)  # nothing is known yet


def test_a_limit_in_dollars_ends_with_an_agent_that_never_says_what_it_costs() -> None:
    silent = Spending().plus(None).plus(None)
    assert silent.reason(5) == ""
    assert silent.plus(None).reason(5) == "--cost 5 cannot be kept: 3 rounds did not say what they cost"
    assert silent.plus(0.1).plus(None).reason(5) == ""


def test_each_fruitless_round_doubles_the_wait_to_half_an_hour() -> None:
    backoff, now, waits = Backoff(), 0.0, []
    for _ in range(10):
        began, now = now, now + 5
        backoff = backoff.plus(False, began + 1, now, "rate limit")
        waits.append(backoff.wait(now))
        assert bool(backoff.gave_up) is (len(waits) == 10)
        now += waits[-1]
        assert backoff.wait(now) == 0
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert backoff.gave_up == "10 rounds in a row brought nothing; the last one: rate limit"
    assert backoff.plus(True, 0, 0, "").wait(0) == 0


def test_a_pause_says_how_long() -> None:
    assert Backoff().words(0) == ""
    backoff = Backoff().plus(False, 0, 100, "")
    assert backoff.words(105) == "1 round in a row brought nothing; asks again in 10 s"
    assert backoff.words(115) == ""


def test_rounds_of_one_time_count_once() -> None:
    backoff = Backoff().plus(False, 0, 100, "a").plus(False, 50, 110, "b").plus(False, 100, 120, "")
    assert (backoff.fruitless, backoff.ended, backoff.last) == (1, 120, "b")
    assert backoff.plus(False, 140, 150, "c").fruitless == 2


# -- signals --


def test_ctrl_c_counts_and_a_third_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        assert (signals.words, signals.exit_code) == ("", 0)
        os.kill(os.getpid(), signal.SIGINT)
        assert (signals.words, signals.exit_code) == ("Ctrl-C", 0)
        os.kill(os.getpid(), signal.SIGINT)
        assert (signals.words, signals.exit_code) == ("Ctrl-C twice", 130)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_end_at_once(name: str, code: int) -> None:
    number = getattr(signal, name)
    with Signals() as signals:
        os.kill(os.getpid(), number)
        assert (signals.words, signals.exit_code) == (name, code)


def test_what_was_ignored_stays_ignored() -> None:
    """`nohup autoresearch loop` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
