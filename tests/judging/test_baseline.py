"""The record and the promotion of a baseline, and the ledger, on disk."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result, verdict_of
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.core import files as module
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.records import Outcome, Record, RunStats, Verdict
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.baseline import Baseline
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import Program

HERE = {"device": "this one"}
THERE = {"device": "that one"}
OLD = Program(BASELINE)
NEW = BASELINE + "BETTER = 1\n"


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    write(tmp_path / "cpu/track.toml", TRACK)
    write(tmp_path / "cpu/train.py", BASELINE)
    return Baseline(read_track(tmp_path / "cpu"), Ledger(tmp_path))


def record_of(source: str, fingerprint: dict[str, str], score: float = 2.0) -> Record:
    program = Program(source)
    stats = RunStats.of([result(0, score)])
    return Record(program.sha, program.code_sha, fingerprint, stats, "2026-01-01T00:00:00+00:00")


def kept(source: str) -> Verdict:
    """The verdict of a program that has beaten the baseline."""
    program = Program(source)
    return replace(
        verdict_of(),
        outcome=Outcome.KEPT,
        program_sha=program.sha,
        baseline_sha=sha256(BASELINE),
        baseline_scores=[2.0],
    )


def test_records_are_kept_by_platform(baseline: Baseline) -> None:
    assert baseline.record(HERE, OLD).scores == []
    baseline.write_record(record_of(BASELINE, HERE, 2.0))
    baseline.write_record(record_of(BASELINE, THERE, 3.0))
    assert baseline.record(HERE, OLD) == record_of(BASELINE, HERE, 2.0)
    assert baseline.record(THERE, OLD).scores == [3.0]
    assert baseline.record(HERE, Program(NEW)).scores == []  # a changed train.py has no record
    baseline.write_record(record_of(NEW, HERE, 1.0))
    assert baseline.record(THERE, OLD).scores == []


def test_the_best_scores_of_a_platform_outlive_their_program(baseline: Baseline) -> None:
    first, second, third = (
        record_of(source, HERE, score) for source, score in ((BASELINE, 2.0), (NEW, 2.5), ("x", 2.2))
    )
    baseline.write_record(first)
    baseline.write_record(record_of(BASELINE, THERE, 3.0))
    assert baseline.lost(first) == 0
    baseline.write_record(second)
    assert baseline.lost(second) == 0.5
    assert baseline.lost(record_of(NEW, THERE, 3.25)) == 0.25, "although nobody has recorded the program there"
    baseline.write_record(third)
    assert baseline.lost(third) == pytest.approx(0.2), "from the best, not from the last"
    baseline.write_record(record_of("x", HERE, 1.9))
    assert baseline.lost(record_of("x", HERE, 1.9)) == 0
    baseline.write_record(replace(second, by_hand=True))
    assert baseline.lost(second) == 0, "a program that was accepted by hand is a new beginning"


def test_a_quick_look_drops_no_record(baseline: Baseline) -> None:
    whole = record_of(BASELINE, HERE, 2.0)
    baseline.write_record(whole)
    look = replace(record_of(NEW, HERE, 2.5), by_hand=True)
    for _ in range(2):
        baseline.write_record(look, keeps_others=True)
    assert baseline.record(HERE, OLD) == whole
    assert baseline.record(HERE, Program(NEW)) == look
    assert baseline.unknown_since(OLD) is None
    assert baseline.unknown_since(Program("another")) is not None


def test_promotion_replaces_program_and_record_together(baseline: Baseline) -> None:
    baseline.write_record(record_of(BASELINE, HERE))
    assert baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    assert baseline.source() == NEW
    assert baseline.record(HERE, Program(NEW)).scores == [1.5]
    assert [(row["status"], row["program_sha"]) for row in baseline.ledger.rows()] == [("keep", sha256(NEW))]
    assert sorted(path.name for path in baseline.track.folder.iterdir() if path.name[0] != ".") == [
        "baseline.json",
        "track.toml",
        "train.py",
    ]


def test_a_baseline_that_moved_is_not_overwritten(baseline: Baseline) -> None:
    write(baseline.path, NEW)
    assert not baseline.promote("x = 1\n", record_of("x = 1\n", HERE), kept("x = 1\n"))
    assert baseline.source() == NEW
    assert baseline.ledger.rows() == []


def test_without_its_line_nothing_is_promoted(baseline: Baseline) -> None:
    baseline.write_record(record_of(BASELINE, HERE))
    baseline.ledger.path.mkdir()
    with pytest.raises(UsageError, match=r"results\.tsv: cannot be read: Is a directory"):
        baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    assert baseline.source() == BASELINE
    baseline.ledger.path.rmdir()
    assert baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))


@pytest.mark.parametrize("operation", range(14))
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
            baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    source = baseline.source()
    assert source in (BASELINE, NEW)
    assert baseline.record(HERE, Program(source)).scores == ([1.5] if source == NEW else [2.0])
    assert len(baseline.ledger.rows()) == (source == NEW)
    assert not (baseline.track.folder / "promotion.json").exists()


def test_what_was_changed_after_a_promotion_was_cut_short_is_not_overwritten(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline.write_record(record_of(BASELINE, HERE))
    with monkeypatch.context() as patch:
        patch.setattr(Baseline, "complete_promotion", lambda self: None)
        assert baseline.promote(NEW, record_of(NEW, HERE, 1.0), kept(NEW))
    baseline.path.write_text("BY_HAND = 1\n")
    with pytest.raises(UsageError, match=r"train\.py: changed since the promotion of norms/rmsnorm was cut short"):
        baseline.source()
    assert baseline.path.read_text() == "BY_HAND = 1\n"
    baseline.path.write_text(BASELINE)
    assert baseline.source() == NEW


def test_a_promotion_against_another_record_is_none(baseline: Baseline) -> None:
    baseline.write_record(record_of(BASELINE, HERE, 2.5))
    assert not baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    assert baseline.source() == BASELINE


def test_what_promotions_changed_is_kept_through_records_and_further_promotions(baseline: Baseline) -> None:
    baseline.write_record(record_of(BASELINE, HERE))
    assert baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    baseline.write_record(record_of(NEW, THERE))
    (past,) = baseline.promotions()
    assert past.experiment == "norms/rmsnorm"
    assert past.changed == {"BETTER": ["BETTER = 1"]}


def test_a_program_is_unknown_where_others_have_records(baseline: Baseline) -> None:
    assert baseline.unknown_since(OLD) is None
    baseline.write_record(record_of(BASELINE, THERE))
    assert baseline.unknown_since(OLD) is None
    assert baseline.unknown_since(Program(f"# a comment\n{BASELINE}")) is None
    assert baseline.unknown_since(Program(NEW)) == record_of(BASELINE, THERE)


def test_a_record_for_this_budget_comes_first(baseline: Baseline) -> None:
    look = replace(record_of(BASELINE, {**THERE, "budget": "20 steps"}), recorded_at="2026-02-01T00:00:00+00:00")
    whole = record_of(BASELINE, {**HERE, "budget": "9 flop"})
    for record in (whole, look):
        baseline.write_record(record)
    assert baseline.unknown_since(Program(NEW)) == look
    assert baseline.unknown_since(Program(NEW), "9 flop") == whole


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"train.py": "", "baseline.json": "", "verdict": {}}'])
def test_a_damaged_promotion_says_so(baseline: Baseline, text: str) -> None:
    write(baseline.track.folder / "promotion.json", text)
    with pytest.raises(UsageError, match=r"promotion\.json: not a promotion"):
        baseline.source()
    assert baseline.path.read_text() == BASELINE


def test_a_damaged_record_says_so(baseline: Baseline) -> None:
    promotions = '{"records": {}, "promotions": [{"experiment": "x", "changed": 5, "promoted_at": ""}]}'
    for text in ("", "[]", '{"records": {"a": {"scores": 1}}}', '{"records": {"a": 3}}', promotions):
        write(baseline.record_path, text)
        with pytest.raises(UsageError, match=r"baseline\.json: not a baseline record"):
            baseline.record(HERE, OLD)


def test_writing_atomically_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "file", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_is_short_to_read_and_comes_back_as_it_was(baseline: Baseline) -> None:
    stats = RunStats.of([result(seed, 2.0, curve=[1.0, None] * 50) for seed in range(3)])
    record = replace(record_of(BASELINE, HERE), stats=stats)
    baseline.write_record(record)
    odd = 'x = "[\\n  1 ]"  # [ 2,   3 ]'
    assert baseline.promote(f"{BASELINE}{odd}\n", replace(record_of(odd, HERE), stats=stats), kept(BASELINE + odd))
    (past,) = baseline.promotions()
    assert past.changed == {"x": ["x = '[\\n  1 ]'"]}
    assert baseline.record(HERE, Program(odd)).stats == stats
    assert len(baseline.record_path.read_text().splitlines()) < 60
