"""The events of a loop in words."""

from dataclasses import replace

import pytest
from fakes import verdict_of

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import duration
from pytest_autoresearch.loop.status import Finished
from pytest_autoresearch.loop.words import dollars, promotion_event, queue_words, round_line, some, verdict_event

HOSTILE = "\x1b[2J\nround 9: brought a prize \u202e"


def test_a_verdict_is_one_line_with_its_name_first() -> None:
    assert verdict_event(verdict_of()) == "norms/rmsnorm DISCARDED 1.2500 against 1.2400 (+0.0100)"
    line = verdict_event(verdict_of(outcome=Outcome.CRASHED, reason=HOSTILE, experiment="a\x1bb"))
    assert line.isprintable()
    assert line.startswith(r"a\x1bb CRASHED")


def test_a_promotion_says_from_where_to_where() -> None:
    verdict = verdict_of(experiment="rmsnorm", baseline_scores=[1.2, 1.4], p_value=1e-7)
    assert promotion_event(verdict) == "promoted rmsnorm: val_bpb 1.3000 -> 1.2500 (-0.0500, p 1e-07)"
    assert promotion_event(replace(verdict, p_value=None)).endswith("1.2500 (-0.0500)")


def test_a_round_says_what_it_brought_how_long_it_took_and_what_it_cost() -> None:
    finished = Finished(7, 74, ["learning_rate_up", "wider_mlp"], dollars=0.12)
    assert round_line(finished) == "round 7: brought learning_rate_up, wider_mlp in 74 s, $0.12"
    assert round_line(Finished(7, 74, ["rope"], fixes="rope")) == "round 7, to mend rope: brought rope in 74 s"
    assert round_line(Finished(7, 74)) == "round 7: brought nothing in 74 s"
    assert round_line(Finished(7, 0.0, ["rope"])) == "round 7: brought rope"


def test_a_rounds_trouble_says_when_an_agent_is_asked_again() -> None:
    trouble = Finished(8, 3, trouble='exit code 1 and no experiment: "rate limit exceeded"')
    line = 'round 8: exit code 1 and no experiment: "rate limit exceeded" (after 3 s)'
    assert round_line(trouble) == line
    assert round_line(trouble, wait=30) == f"{line}; asks again in 30 s"
    late = Finished(9, 1800, ["rope"], trouble="ended after --agent-timeout")
    assert round_line(late) == "round 9: brought rope in 30 min; ended after --agent-timeout"


def test_a_round_says_what_was_refused_and_why() -> None:
    refused = [("a.py", "experiments/a.py: does not parse"), ("b.py", "equals the baseline"), ("c.py", "too large")]
    brought = "round 1: brought rope in 5 s; refused"
    assert round_line(Finished(1, 5, ["rope"], refused)) == (
        f"{brought} experiments/a.py: does not parse; and 2 more files"
    )
    assert round_line(Finished(1, 5, ["rope"], refused[1:2])) == f"{brought} b.py: equals the baseline"
    trouble = "1 file refused: b.py: equals the baseline"
    assert round_line(Finished(1, 5, [], refused[1:2], trouble)) == f"round 1: {trouble} (after 5 s)"


def test_what_an_agent_wrote_is_one_line_of_bounded_length() -> None:
    line = round_line(Finished(1, 5, [HOSTILE], [(HOSTILE, HOSTILE * 99)], HOSTILE * 99, fixes=HOSTILE))
    assert line.isprintable()
    assert len(line) < 700


def test_many_names_are_counted() -> None:
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert queue_words(["rope", "muon"]) == "2 wait: rope, muon"
    assert queue_words(["rope"]) == "1 waits: rope"
    assert queue_words([]) == "nothing waits"


@pytest.mark.parametrize(("amount", "words"), [(0.0, "$0.00"), (0.0004, "$0.0004"), (0.125, "$0.12"), (31.5, "$31.50")])
def test_small_amounts_are_not_rounded_to_nothing(amount: float, words: str) -> None:
    assert dollars(amount) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (599, "599 s"), (600, "10 min"), (26_400, "7 h 20 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
