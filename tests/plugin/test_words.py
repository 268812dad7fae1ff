"""The words for verdicts, headers and summaries: what was compared stands in each."""

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result, verdict_of

from pytest_autoresearch.core.records import Outcome, Record, RunStats, Verdict
from pytest_autoresearch.core.text import fitting
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.summary import Promotion, SessionHeader, SessionSummary
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.plugin.words import (
    LETTERS,
    failure_message,
    header_lines,
    short_line,
    summary_lines,
)

TRACK = read_track(Path(__file__).parents[2] / "baseline/cpu")
RECORD = Record("p", "c", {}, RunStats.of([result(n, 2.0 + n / 100) for n in range(3)]), "2026-01-01T00:00:00+00:00")
HEADER = SessionHeader(TRACK, "a CPU", "2", "sandbox bubblewrap", "baseline/cpu/train.py", RECORD, False, "", True)


def verdict(*scores: float, **changes: object) -> Verdict:
    """A verdict after so many seeds, against a baseline of three."""
    stats = RunStats.of([result(seed, score) for seed, score in enumerate(scores)])
    values = {"stats": stats, "baseline_scores": RECORD.scores, "delta": -0.0029, "p_value": 0.38, "reason": "why"}
    return verdict_of(**{**values, **changes})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (verdict(1.9971), "DISCARDED 1.9971 against 2.0000 on seed 0 (-0.0029, p 0.38) why"),
        (verdict(2.0, 2.0), "DISCARDED 2.0000 against 2.0050 on seeds 0 to 1 (-0.0029, p 0.38) why"),
        (verdict(2.0, 2.0, 2.0), "DISCARDED 2.0000 against 2.0100 (-0.0029, p 0.38) why"),
        (verdict(2.0, p_value=None), "DISCARDED 2.0000 against 2.0000 on seed 0 (-0.0029) why"),
        (
            verdict(2.0, 2.0, 2.0, outcome=Outcome.KEPT, provisional=True, replayed=True),
            "KEPT (quick look, replayed) 2.0000 against 2.0100 (-0.0029, p 0.38)",
        ),
        (
            verdict(2.0, replayed=True, same_as="softcap"),
            "DISCARDED (replayed, same program as softcap) 2.0000 against 2.0000 on seed 0 (-0.0029, p 0.38) why",
        ),
        (
            verdict(2.0, 2.0, 2.0, outcome=Outcome.KEPT, simplifies=True, reason="simpler (9, 10) and so on"),
            "KEPT 2.0000 against 2.0100 (-0.0029, p 0.38) as simpler (9, 10) and so on",
        ),
        (verdict(delta=None, p_value=None, outcome=Outcome.TIMED_OUT), "TIMED OUT why"),
        (verdict(2.0, note="look"), "DISCARDED 2.0000 against 2.0000 on seed 0 (-0.0029, p 0.38) why; note: look"),
    ],
)
def test_a_line_says_what_was_compared(given: Verdict, line: str) -> None:
    assert verdict_line(given) == line


def test_the_short_summary_does_not_say_the_outcome_twice() -> None:
    assert short_line(verdict(1.9971)) == "1.9971 against 2.0000 on seed 0 (-0.0029, p 0.38) why"
    assert short_line(verdict(delta=None, p_value=None, outcome=Outcome.OUT_OF_MEMORY)) == "why"


def test_a_live_line_leaves_out_what_does_not_fit() -> None:
    parts = ["loss 2.314", "6 s left", "21k tokens/s"]
    assert fitting(parts, 34) == "loss 2.314, 6 s left, 21k tokens/s"
    assert fitting(parts, 33) == "loss 2.314, 6 s left"
    assert fitting(parts, 3) == ""


def test_what_only_shows_does_not_say_that_it_will_record() -> None:
    anew = replace(HEADER, records_anew=True, promotes=False)
    for header in (replace(HEADER, record=None), replace(HEADER, record=Record("p", "c", {})), anew):
        assert not any("first" in line or "promoted" in line for line in header_lines(header, runs=False))
        assert any("first" in line for line in header_lines(header))


def test_a_failure_has_the_seeds_the_traceback_and_the_log() -> None:
    crashed = verdict(2.0, 1.9, outcome=Outcome.CRASHED, detail="Traceback\n  line\n", evidence="results/x")
    assert failure_message(crashed).splitlines() == [
        f"{verdict_line(crashed)}; per seed 2.0000 against 2.0000, 1.9000 against 2.0100",
        "| Traceback",
        "|   line",
        "see results/x/seed-1/log.txt",
    ]
    assert "log.txt" not in failure_message(verdict(2.0))


def test_every_outcome_has_a_letter_of_its_own() -> None:
    assert set(LETTERS) == set(Outcome)
    assert len(set(LETTERS.values())) == len(LETTERS)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["baseline 2.0100 val_bpb, recorded 2026-01-01T00:00:00+00:00"]),
        ({"record": None}, ["corpus stdlib is not in the cache: it will be fetched first"]),
        ({"records_anew": True}, ["baseline/cpu/train.py is recorded anew first"]),
        (
            {"record": replace(RECORD, stats=RunStats())},
            ["no record for this platform: baseline/cpu/train.py is recorded first"],
        ),
        (
            {"record": replace(RECORD, stats=RECORD.stats.first(1))},
            ["no record for this platform for seed 1: baseline/cpu/train.py is recorded first"],
        ),
        (
            {
                "record": replace(RECORD, stats=RunStats()),
                "track": replace(TRACK, name="cpu@9steps"),
                "provisional": "--ar-budget is not the track's 5e+11 flop",
            },
            [
                "no record for this budget: baseline/cpu/train.py is recorded first",
                "nothing will be promoted: --ar-budget is not the track's 5e+11 flop",
            ],
        ),
        (
            {"promotes": False},
            [
                "baseline 2.0100 val_bpb, recorded 2026-01-01T00:00:00+00:00",
                "nothing will be promoted: --ar-no-promote",
            ],
        ),
    ],
)
def test_the_header_says_what_comes_first(changes: dict[str, object], lines: list[str]) -> None:
    first, *others = header_lines(replace(HEADER, **changes))  # type: ignore[arg-type]
    assert first.startswith("autoresearch: track cpu")
    assert "on a CPU (2 threads), 5e+11 flop a run, 3 seeds, sandbox bubblewrap" in first
    assert others == [f"autoresearch: {line}" for line in lines]


def test_the_table_compares_like_with_like() -> None:
    best, worst = verdict(1.9, 1.9, 1.9, outcome=Outcome.KEPT, delta=-0.11), verdict(2.1, delta=0.1, provisional=True)
    judged = [("worst", worst), ("broken", verdict(delta=None, p_value=None, outcome=Outcome.CRASHED)), ("best", best)]
    _, _, *rows = summary_lines(SessionSummary("cpu", RECORD, judged, None, ["a note"], False))
    cells = [row.split() for row in rows]
    assert cells[0][:2] == ["baseline", "2.0100"]
    assert cells[1][:4] == ["best", "1.9000", "2.0100", "-0.1100"]
    assert cells[2][:4] == ["worst", "2.1000", "2.0000", "+0.1000"]
    assert rows[2].endswith("DISCARDED (quick look)")
    assert cells[3] == ["broken", "0", "0", "s", "CRASHED"]
    assert rows[4:] == ["a note"]


def test_the_end_says_what_was_promoted_what_was_outrun_and_what_was_replayed() -> None:
    best = verdict(1.9, 1.9, 1.9, outcome=Outcome.KEPT, status="keep", experiment="best", replayed=True)
    good = replace(best, experiment="good", status="pass", replayed=False)
    promotion = Promotion(best, 2.0, 1.9, Path("baseline/cpu/train.py").absolute())
    lines = summary_lines(SessionSummary("cpu", RECORD, [("best", best), ("good", good)], promotion, [], False))
    assert lines[-3:] == [
        "promoted best: baseline/cpu/train.py 2.0000 → 1.9000 val_bpb (-5.00%)",
        "kept but outrun: good; the next session tries them on the new baseline",
        "replayed, not trained again: 1 (--ar-rerun trains again)",
    ]


def test_an_interrupt_says_how_to_go_on_and_an_empty_session_says_nothing() -> None:
    judged = [("one", verdict(2.0))]
    lines = summary_lines(SessionSummary("cpu", RECORD, judged, None, [], True))
    assert lines[-1] == "interrupted: 1 verdict is in the ledger; the same command continues with the rest"
    assert summary_lines(SessionSummary("cpu", None, [], None, ["a note"], True)) == []
