"""When a session stops, what it leaves and what it says. Nothing trains here."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeExecutor, verdict_of
from tiny_project import TinyProject

from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.judging.evidence import Evidence
from pytest_autoresearch.judging.stopping import Stopping, StopRule, Tally

GOOD, BAD = [1.9, 1.92], [2.3]
DISCARDED, KEPT = verdict_of(), verdict_of(outcome=Outcome.KEPT)  # at 1.25 each


def tally(*verdicts: Verdict) -> Tally:
    counted = Tally()
    for verdict in verdicts:
        counted = counted.plus(verdict)
    return counted


@pytest.mark.parametrize(
    ("verdicts", "without_keep", "best"),
    [
        ((), 0, None),
        ((DISCARDED, replace(DISCARDED, outcome=Outcome.CRASHED)), 2, None),
        ((DISCARDED, KEPT, DISCARDED), 1, 1.25),
        ((DISCARDED, replace(DISCARDED, replayed=True), replace(DISCARDED, outcome=Outcome.TRIED)), 1, None),
        ((DISCARDED, replace(KEPT, replayed=True), DISCARDED), 2, 1.25),  # but what was kept is kept
    ],
)
def test_what_counts(verdicts: tuple[Verdict, ...], without_keep: int, best: float | None) -> None:
    assert tally(*verdicts) == Tally(without_keep, best)


@pytest.mark.parametrize(
    ("rule", "hours", "counted", "record", "reason"),
    [
        (StopRule(), 1e6, Tally(1000, 0.1), 0.1, ""),
        (StopRule(hours=0.5), 0.4, Tally(), None, ""),
        (StopRule(hours=0.5), 0.5, Tally(), None, "--ar-hours 0.5 have passed"),
        (StopRule(until=1.95), 0.0, Tally(9, 1.96), 2.0, ""),
        (StopRule(until=1.95), 0.0, Tally(9, 1.95), 2.0, "--ar-until 1.95 is reached, 1.9500"),
        (StopRule(until=1.95), 0.0, Tally(), 1.9, "--ar-until 1.95 is reached by the baseline, 1.9000"),
        (StopRule(patience=5), 0.0, Tally(4), None, ""),
        (StopRule(patience=5), 0.0, Tally(6), None, "--ar-patience 5 verdicts without a keep"),
    ],
)
def test_the_rule(rule: StopRule, hours: float, counted: Tally, record: float | None, reason: str) -> None:
    assert rule.reason(hours, counted, record) == reason


def test_processes_that_share_a_session_count_together(tmp_path: Path) -> None:
    workers = [Stopping(StopRule(patience=2), Evidence(tmp_path), shared="run") for _ in range(3)]
    workers[0].add(DISCARDED)
    assert not any(worker.reason() for worker in workers)
    workers[1].add(DISCARDED)
    assert all(worker.reason() for worker in workers)
    assert not Stopping(StopRule(patience=2), Evidence(tmp_path), shared="another").reason()
    workers[2].close()
    assert not list(tmp_path.glob("results/.session*"))


# -- in a session --


def five(project: TinyProject, **canned: list[float]) -> FakeExecutor:
    """Experiments a to e, of which `canned` says what they score; the others are discarded."""
    for name in "abcde":
        project.idea(name)
    return project.fake(**{name: canned.get(name, BAD) for name in "abcde"})


def test_patience_leaves_the_rest_to_the_next_session(project: TinyProject) -> None:
    executor = five(project, a=GOOD)
    result = project.run("--ar-patience", "2", "-rs")
    result.assert_outcomes(passed=1, failed=2, skipped=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    why = "--ar-patience 2 verdicts without a keep"
    lines = [
        f"experiments/d.py SKIPPED: left unjudged: {why}*",
        f"experiments/e.py SKIPPED: left unjudged: {why}*",
        "promoted a: *",
        f"stopped after 3 verdicts: {why}; left unjudged: 2 experiments; the next session judges them",
        f"SKIPPED [[]1] experiments/d.py: left unjudged: {why}",
    ]
    result.stdout.fnmatch_lines(lines)
    assert [row["experiment"] for row in project.rows] == ["baseline", "b", "c", "a"]
    assert {Path(spec.evidence).parent.name[0] for spec in executor.specs[2:]} == {"a", "b", "c"}

    executor.specs.clear()
    result = project.run("--ar-patience", "1")
    result.stdout.fnmatch_lines(["*left unjudged: 1 experiment; the next session judges it"])
    assert [Path(spec.evidence).parent.name[0] for spec in executor.specs] == ["d"]


def test_verdicts_that_are_there_are_shown_after_the_stop(project: TinyProject) -> None:
    executor = five(project)
    project.night(executor, promote=False)
    project.idea("b")
    project.idea("0")  # comes first, and is new
    project.idea("f")
    executor.canned |= {"# 0 #": BAD, "# f #": BAD}
    night = project.night(executor, promote=False, stop=StopRule(patience=1))
    assert list(night.verdicts) == ["0", "a", "b", "c", "d", "e"]
    assert night.skipped == {"f": "left unjudged: --ar-patience 1 verdict without a keep"}


def test_a_score_that_is_reached_ends_the_session(project: TinyProject) -> None:
    executor = five(project, b=GOOD)
    night = project.night(executor, stop=StopRule(until=1.91))
    assert list(night.verdicts) == ["a", "b"]
    assert night.summary.promotion
    again = project.night(executor, stop=StopRule(until=1.91))
    assert again.skipped["c"] == "left unjudged: --ar-until 1.91 is reached by the baseline, 1.9100"
    assert again.trained == []
    assert again.skipped["b"] == "the program equals the baseline"


def test_hours_end_a_session_between_experiments(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = five(project, b=GOOD)
    project.night(executor, promote=False, finish=False)
    real, shift = time.time, [0.0]
    monkeypatch.setattr("pytest_autoresearch.judging.stopping.time.time", lambda: real() + shift[0])
    run = executor.run

    def slow(*arguments: object) -> object:
        shift[0] += 3600.0
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "run", slow)
    night = project.night(executor, rerun=True, stop=StopRule(hours=2.5))
    assert list(night.verdicts) == ["a", "b"]  # b, which began in time, has both its runs


def test_for_nothing_no_baseline_is_recorded(project: TinyProject) -> None:
    night = project.night(five(project), stop=StopRule(hours=1e-12))
    assert night.trained == []
    assert set(night.skipped.values()) == {"left unjudged: --ar-hours 1e-12 have passed"}
    assert not (project.path / "results.tsv").exists()


@pytest.mark.parametrize(
    ("option", "text", "what"),
    [
        ("--ar-hours", "0", "a number above 0"),
        ("--ar-hours", "two\n", "a number above 0"),
        ("--ar-until", "nan", "a number above 0"),
        ("--ar-until", "inf", "a number above 0"),
        ("--ar-patience", "1.5", "a whole number above 0"),
        ("--ar-patience", "-1", "a whole number above 0"),
    ],
)
def test_bad_values_are_one_line(project: TinyProject, option: str, text: str, what: str) -> None:
    result = project.run(f"{option}={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {option} {text.strip()}: must be {what}"]


def test_workers_of_xdist_stop_together(recorded: TinyProject) -> None:
    """Without a fake, which does not get into a worker: programs that choose their seed are not trained."""
    for number in range(8):
        recorded.experiment(f"e{number}", f"torch.manual_seed({number})")
    result = recorded.pytester.runpytest_subprocess("experiments", "-n", "2", "--ar-patience", "3")
    counts = result.parseoutcomes()
    assert counts["failed"] in (3, 4)  # the other worker may be at one when the third verdict comes
    assert counts["skipped"] == 8 - counts["failed"]
    why = "--ar-patience 3 verdicts without a keep"
    result.stdout.fnmatch_lines([f"stopped after [34] verdicts: {why}; left unjudged: [45] experiments; *"])
    assert not list(recorded.path.glob("results/.session*"))
