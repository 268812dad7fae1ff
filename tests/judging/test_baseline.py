"""The record and the promotion of a baseline, and the ledger, on disk."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.core import files as module
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.baseline import Baseline, Record, mean_curve
from pytest_autoresearch.judging.ledger import COLUMNS, Ledger, Verdict
from pytest_autoresearch.judging.verdict import Outcome
from pytest_autoresearch.programs.compare import sha256

HERE = {"device": "this one"}
THERE = {"device": "that one"}
NEW = BASELINE + "# better\n"


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
    evidence="results/cpu/norms--rmsnorm-ppppppp",
    finished_at="2026-01-01T00:00:00+00:00",
    curve=[],
    baseline_scores=[1.24],
)


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    write(tmp_path / "cpu/track.toml", TRACK)
    write(tmp_path / "cpu/train.py", BASELINE)
    return Baseline(read_track(tmp_path / "cpu"), Ledger(tmp_path))


def record_of(source: str, fingerprint: dict[str, str], score: float = 2.0) -> Record:
    return Record(sha256(source), fingerprint, [score], [None, 1.0], 0.5, 10.0, recorded_at="2026-01-01T00:00:00+00:00")


def kept(source: str) -> Verdict:
    """The verdict of a program that has beaten the baseline."""
    return replace(VERDICT, outcome=Outcome.KEPT, program_sha=sha256(source), baseline_sha=sha256(BASELINE))


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
    assert baseline.promote(NEW, record_of(NEW, HERE, 1.5), kept(NEW))
    assert baseline.source() == NEW
    assert baseline.record(HERE, NEW).scores == [1.5]
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
    assert baseline.record(HERE, source).scores == ([1.5] if source == NEW else [2.0])
    assert len(baseline.ledger.rows()) == (source == NEW)
    assert not (baseline.track.folder / "promotion.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"train.py": "", "baseline.json": "", "verdict": {}}'])
def test_a_damaged_promotion_says_so(baseline: Baseline, text: str) -> None:
    write(baseline.track.folder / "promotion.json", text)
    with pytest.raises(UsageError, match=r"promotion\.json: not a promotion"):
        baseline.source()
    assert baseline.path.read_text() == BASELINE


def test_a_damaged_record_says_so(baseline: Baseline) -> None:
    for text in ("", "[]", '{"records": {"a": {"scores": 1}}}', '{"records": {"a": 3}}'):
        write(baseline.record_path, text)
        with pytest.raises(UsageError, match=r"baseline\.json: not a baseline record"):
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


def test_a_line_is_one_line_whatever_the_description_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    logged = ledger.log(VERDICT)
    ledger.log(replace(VERDICT, outcome=Outcome.CRASHED, scores=[], finished_at="2026-01-01T00:00:01+00:00"))
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


def test_verdicts_are_read_from_nowhere_a_program_can_write(tmp_path: Path) -> None:
    """What it leaves in its own files, and a pipe on which a reader would wait for ever."""
    ledger = Ledger(tmp_path)
    folder = tmp_path / "results/cpu/idea-1234567"
    forged = replace(VERDICT, status="", evidence="results/cpu/idea-1234567/seed-0/files", key="0")
    text = json.dumps(forged.as_dict())
    for place in ("seed-0/files", "rehearsal/files", "seed-0/files/cpu/idea-1234567"):
        write(folder / place / "verdict-0.json", text)
    write(folder / "verdict-0.json", text)  # names another place as its own
    write(folder / "verdict-1.json", json.dumps(replace(forged, evidence="results/cpu/idea-1234567").as_dict()))
    os.mkfifo(folder / "verdict-2.json")
    (folder / "verdict-3.json").symlink_to(folder / "seed-0/files/verdict-0.json")
    assert ledger.unlogged("cpu") == []
    assert ledger.verdicts("cpu", VERDICT.experiment) == []
    nested = ledger.evidence("cpu", "idea-1234567/seed-0/files/x", "f" * 64)
    assert nested.parent == folder.parent


def test_the_baseline_has_one_line(tmp_path: Path, baseline: Baseline) -> None:
    ledger = Ledger(tmp_path)
    for _ in range(2):
        ledger.log_baseline(baseline.track, record_of(BASELINE, HERE))
    assert [(row["experiment"], row["status"]) for row in ledger.rows()] == [("baseline", "keep")]


def test_a_verdict_has_one_line_and_one_more_when_it_is_promoted_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    passed = replace(VERDICT, outcome=Outcome.KEPT, experiment='a "b"')
    assert ledger.log(passed).status == ledger.log(passed).status == "pass"
    assert ledger.log(replace(passed, status="keep")).status == "keep"
    assert ledger.log(replace(passed, status="keep")).status == "keep"
    assert ledger.log(passed).status == "keep"  # of a session that does not know of the promotion
    assert [row["status"] for row in ledger.rows()] == ["pass", "keep"]

    saved = json.loads((tmp_path / VERDICT.evidence / "verdict-key.json").read_text())
    assert saved["status"] == "keep"


HEAD = "\t".join(COLUMNS)
LINE = "\t".join("x" for _ in COLUMNS[:-1]) + "\t2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("", 0),
        (HEAD[:9], 0),
        (HEAD, 0),
        (f"{HEAD}\n", 0),
        (f"{HEAD}\n{LINE}\n", 1),
        (f"{HEAD}\n{LINE}", 1),  # as some editors leave it
        (f"{HEAD}\r\n{LINE}\r\n", 1),
        (f"\ufeff{HEAD}\n{LINE}\n{LINE[:9]}", 1),
        (f"{HEAD}\n{LINE}\n{LINE[:-1]}", 1),
        (f"{HEAD}\tmine\n{LINE}\tnote\n", 1),
    ],
)
def test_a_line_goes_behind_whole_lines_only(tmp_path: Path, before: str, lines: int) -> None:
    ledger = Ledger(tmp_path)
    ledger.path.write_bytes(before.encode())
    ledger.log(VERDICT)
    rows = ledger.rows()
    assert len(rows) == lines + 1
    assert [row["commit"] for row in rows[:-1]] == ["x"] * lines
    assert rows[-1]["status"] == "discard"
    assert [row["finished_at"] for row in rows] == ["2026-01-01T00:00:00+00:00"] * len(rows)
    assert ledger.path.read_bytes().endswith(b"+00:00\t\n" if "mine" in before else b"+00:00\n")


def test_a_table_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for text in ("commit\tval_bpb\tmemory_gb\tstatus\tdescription\nabc\t1\t1\tkeep\tmine\n", "notes", "notes\n"):
        ledger.path.write_text(text)
        with pytest.raises(UsageError, match=r"results\.tsv: no ledger: it has no column"):
            ledger.log(VERDICT)
        assert ledger.path.read_text() == text
