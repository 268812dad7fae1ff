"""The history of a track, as the ledger has it."""

from dataclasses import replace
from pathlib import Path

from fakes import result, verdict_of

from pytest_autoresearch.core.records import Outcome, Record, RunStats
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.plateau import plateau_of


def written(root: Path) -> Ledger:
    """A ledger with a baseline, a discarded, a promoted and a crashed experiment, a trial, and another track."""
    ledger = Ledger(root)
    stats = RunStats.of([result(0, 2.0)])
    ledger.log_baseline("cpu", Record("b" * 64, "c" * 64, {}, stats, "2026-01-01T00:00:00+00:00"))
    discarded = verdict_of(experiment="-a", changes=["MLP", "WIDTH"], reason="not below the baseline")
    ledger.log(discarded)
    kept = replace(discarded, experiment="b", outcome=Outcome.KEPT, finished_at="2026-01-02T00:00:00+00:00")
    ledger.log(kept)
    ledger.log(replace(kept, status="keep"))
    ledger.log(replace(discarded, experiment="c", outcome=Outcome.CRASHED, finished_at="2026-01-03T00:00:00+00:00"))
    ledger.log(replace(discarded, experiment="s[01]", outcome=Outcome.TRIED, finished_at="2026-01-04T00:00:00+00:00"))
    ledger.log(replace(discarded, track="cuda"))
    return ledger


def test_every_verdict_is_one_entry(tmp_path: Path) -> None:
    history = History.read(written(tmp_path), "cpu")
    assert [(entry.experiment, entry.status) for entry in history.entries] == [
        ("baseline", "keep"),
        ("-a", "discard"),
        ("b", "keep"),
        ("c", "crash"),
        ("s[01]", "trial"),
    ]
    assert [entry.experiment for entry in history.baselines] == ["baseline", "b"]
    assert [entry.experiment for entry in history.verdicts] == ["-a", "b", "c"]
    assert [entry.experiment for entry in history.since_keep] == ["c"]
    assert [entry.experiment for entry in history.trials] == ["s[01]"]
    first = history.verdicts[0]
    assert (first.changes, first.reason) == (("MLP", "WIDTH"), "not below the baseline")
    assert (first.val_bpb, first.delta, first.runs, first.lines_added) == (1.25, 0.01, 1, 3)
    assert history.verdicts[-1].val_bpb is None


def test_a_keep_that_was_not_promoted_is_a_keep(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    ledger.log(verdict_of(experiment="d", outcome=Outcome.KEPT, finished_at="2026-01-05T00:00:00+00:00"))
    ledger.log(verdict_of(experiment="e", finished_at="2026-01-06T00:00:00+00:00"))
    history = History.read(ledger, "cpu")
    assert [entry.experiment for entry in history.baselines] == ["baseline", "b"]
    assert [entry.experiment for entry in history.since_keep] == ["e"]
    assert plateau_of(history).since == 1


def test_lines_that_people_have_broken_are_left_out(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    text = ledger.path.read_text()
    ledger.path.write_text(text.replace("\tdiscarded\t", "\tnonsense\t").replace("1.250000", "much") + "\n\nx\ty\n")
    assert [entry.experiment for entry in History.read(ledger, "cpu").verdicts] == ["c"]


def test_a_ledger_of_before_has_no_changes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.path.write_text(
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\ttrack\texperiment\tverdict\tdelta\tp_value\truns\tseconds\tlines_added\tlines_removed\tprogram_sha\tbaseline_sha\tfinished_at\n"
    )
    ledger.log(verdict_of(changes=["MLP"]))
    assert History.read(ledger, "cpu").verdicts[0].changes == ()


def test_without_a_ledger_there_is_no_history(tmp_path: Path) -> None:
    assert History.read(Ledger(tmp_path), "cpu").entries == ()
