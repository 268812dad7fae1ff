"""The record and the promotion of a baseline, and the ledger, on disk."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import BASELINE, TRACK, write

from pytest_autoresearch import BadInput
from pytest_autoresearch import baseline as module
from pytest_autoresearch.baseline import Baseline, Record, mean_curve, write_atomically
from pytest_autoresearch.experiment import sha256
from pytest_autoresearch.ledger import COLUMNS, Ledger, Verdict
from pytest_autoresearch.track import read_track
from pytest_autoresearch.verdict import Outcome

HERE = {"device": "this one"}
THERE = {"device": "that one"}
NEW = BASELINE + "# better\n"


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    write(tmp_path / "cpu/track.toml", TRACK)
    write(tmp_path / "cpu/train.py", BASELINE)
    return Baseline(read_track(tmp_path / "cpu"))


def record_of(source: str, fingerprint: dict[str, str], score: float = 2.0) -> Record:
    return Record(sha256(source), fingerprint, [score], [None, 1.0], 0.5, 10.0, "2026-01-01T00:00:00+00:00")


def test_records_are_kept_by_platform(baseline: Baseline) -> None:
    assert baseline.record(HERE, BASELINE).scores == []
    baseline.write_record(record_of(BASELINE, HERE, 2.0))
    baseline.write_record(record_of(BASELINE, THERE, 3.0))
    assert baseline.record(HERE, BASELINE) == record_of(BASELINE, HERE, 2.0)
    assert baseline.record(THERE, BASELINE).scores == [3.0]
    assert baseline.record(HERE, NEW).scores == []  # a changed train.py has no record
    baseline.write_record(record_of(NEW, HERE, 1.0))
    assert baseline.record(THERE, BASELINE).scores == []


def test_promotion_replaces_program_and_record_together(baseline: Baseline) -> None:
    baseline.write_record(record_of(BASELINE, HERE))
    assert baseline.promote(NEW, record_of(NEW, HERE, 1.5), judged_against=sha256(BASELINE))
    assert baseline.source() == NEW
    assert baseline.record(HERE, NEW).scores == [1.5]
    assert sorted(path.name for path in baseline.track.folder.iterdir() if path.name[0] != ".") == [
        "baseline.json",
        "track.toml",
        "train.py",
    ]


def test_a_baseline_that_moved_is_not_overwritten(baseline: Baseline) -> None:
    write(baseline.path, NEW)
    assert not baseline.promote("x = 1\n", record_of("x = 1\n", HERE), judged_against=sha256(BASELINE))
    assert baseline.source() == NEW


@pytest.mark.parametrize("operation", range(12))
def test_a_promotion_that_is_cut_short_is_all_or_nothing(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    """Every replace and fsync in turn is the last thing that happens; then another session starts."""
    baseline.write_record(record_of(BASELINE, HERE))
    left = operation

    class Killed(BaseException):
        pass

    def counted(real):  # type: ignore[no-untyped-def]
        def call(*arguments):  # type: ignore[no-untyped-def]
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", counted(os.replace))
        patch.setattr(module.os, "fsync", counted(os.fsync))
        with suppress(Killed):
            baseline.promote(NEW, record_of(NEW, HERE, 1.5), judged_against=sha256(BASELINE))
    source = baseline.source()
    assert source in (BASELINE, NEW)
    assert baseline.record(HERE, source).scores == ([1.5] if source == NEW else [2.0])
    assert not (baseline.track.folder / "promotion.json").exists()


def test_a_damaged_record_says_so(baseline: Baseline) -> None:
    for text in ("", "[]", '{"records": {"a": {"scores": 1}}}', '{"records": {"a": 3}}'):
        write(baseline.record_path, text)
        with pytest.raises(BadInput, match=r"baseline\.json: not a baseline record"):
            baseline.record(HERE, BASELINE)


def test_writing_atomically_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "file", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_mean_curve() -> None:
    assert mean_curve([[1.0, None, 3.0], [2.0, None, None]]) == [1.5, None, 3.0]


# -- the ledger --

VERDICT = Verdict(
    experiment="norms/rmsnorm",
    description="a tab\tand a\nnewline\r\n",
    track="cpu",
    outcome=Outcome.DISCARDED,
    reason="",
    detail="",
    scores=[1.25],
    delta=0.01,
    p_value=None,
    runs=1,
    seconds=12.34,
    memory_gb=0.46,
    lines_added=3,
    lines_removed=1,
    experiment_sha="e" * 64,
    program_sha="p" * 64,
    baseline_sha="b" * 64,
    key="key",
    platform="platform",
    evidence="results/cpu/norms/rmsnorm-ppppppp",
    finished_at="2026-01-01T00:00:00+00:00",
    curve=[],
    baseline_scores=[1.24],
)


def test_a_line_is_one_line_whatever_the_description_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    logged = ledger.log(VERDICT)
    ledger.log(replace(VERDICT, outcome=Outcome.CRASHED, scores=[]))
    lines = (tmp_path / "results.tsv").read_text().splitlines()
    assert len(lines) == 3
    assert all(line.count("\t") == len(COLUMNS) - 1 for line in lines)
    row, crash = ledger.rows()
    assert row["description"] == "a tab and a newline  "
    assert (row["status"], row["val_bpb"], row["memory_gb"], row["delta"]) == ("discard", "1.250000", "0.5", "0.010000")
    assert (crash["status"], crash["val_bpb"], crash["memory_gb"]) == ("crash", "0.000000", "0.0")
    assert logged.status == "discard"


def test_verdicts_come_back_as_they_were_and_broken_evidence_is_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(VERDICT)
    assert ledger.verdicts("cpu", "norms/rmsnorm") == [VERDICT]
    assert ledger.verdicts("cpu", "rmsnorm") == []
    path = tmp_path / VERDICT.evidence / "verdict-key.json"
    for damage in ("", "{}", json.dumps({**json.loads(path.read_text()), "outcome": "wonderful"})):
        path.write_text(damage)
        assert ledger.verdicts("cpu", "norms/rmsnorm") == []


def test_the_baseline_has_one_line(tmp_path: Path, baseline: Baseline) -> None:
    ledger = Ledger(tmp_path)
    for _ in range(2):
        ledger.log_baseline(baseline.track, record_of(BASELINE, HERE))
    assert [(row["experiment"], row["status"]) for row in ledger.rows()] == [("baseline", "keep")]
