"""The ledger on disk: whole lines, one for each verdict."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result, verdict_of
from tiny_project import TinyProject

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, Record, RunStats
from pytest_autoresearch.judging.ledger import COLUMNS, Ledger

VERDICT = verdict_of()


def test_a_line_is_one_line_whatever_the_description_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    logged = ledger.log(VERDICT)
    ledger.log(replace(VERDICT, outcome=Outcome.CRASHED, stats=RunStats(), finished_at="2026-01-01T00:00:01+00:00"))
    lines = (tmp_path / "results.tsv").read_text().splitlines()
    assert len(lines) == 3
    assert all(line.count("\t") == len(COLUMNS) - 1 for line in lines)
    row, crash = ledger.rows()
    assert row["description"] == "a tab and a newline"
    assert (row["status"], row["val_bpb"], row["memory_gb"], row["delta"]) == ("discard", "1.250000", "0.5", "0.010000")
    assert (crash["status"], crash["val_bpb"], crash["memory_gb"]) == ("crash", "0.000000", "0.0")
    assert logged.status == "discard"


def test_a_spreadsheet_runs_nothing_and_numbers_stay_numbers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for words in ('=HYPERLINK("http://x","y")', "+1+1", "@SUM(1)", "-2", "\t=1", "\r=1", "a\x1b[2J = \u202e1"):
        for _ in range(2):
            ledger.log(replace(VERDICT, description=words, experiment=words, delta=-0.0013))
    rows = ledger.rows()
    told = ["'=HYPERLINK('http://x','y')", "'+1+1", "'@SUM(1)", "'-2", "'=1", "'=1", r"a\x1b[2J = \u202e1"]
    assert [row["description"] for row in rows] == [*told[:4], told[4], told[6]]
    assert [row["experiment"] for row in rows] == [row["description"] for row in rows]
    assert {(row["delta"], row["commit"]) for row in rows} == {("-0.001300", "-")}


def test_two_verdicts_of_one_second_are_two_lines(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake(good=[2.3])
    for _ in range(2):
        project.night(fake, rerun=True)
    assert [row["experiment"] for row in project.rows] == ["baseline", "good", "good"]


def test_a_files_name_need_not_be_utf_8(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for _ in range(2):
        ledger.log(replace(VERDICT, experiment="caf\udce9"))
    assert [row["experiment"] for row in ledger.rows()] == [r"caf\udce9"]


def test_the_baseline_has_one_line(tmp_path: Path) -> None:
    record = Record("p" * 64, "c" * 64, {}, RunStats.of([result(0, 2.0)]), "2026-01-01T00:00:00+00:00")
    ledger = Ledger(tmp_path)
    for _ in range(2):
        ledger.log_baseline("cpu", record)
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
        with pytest.raises(UsageError, match=r"results\.tsv: not a ledger: it has no column"):
            ledger.log(VERDICT)
        assert ledger.path.read_text() == text


def test_the_commit_is_marked_where_it_does_not_hold_the_programs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, tmp_path / "experiments", tmp_path / "baseline")
    assert ledger.commit() == "-"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "notes").write_text("")
    git("add", "notes")
    git("commit", "-m", "first")
    clean = ledger.commit()
    assert len(clean) == 7
    (tmp_path / "other").write_text("")
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline/baseline.json").write_text("{}")
    assert ledger.commit() == clean
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/idea.py").write_text("")
    assert ledger.commit() == f"{clean}+"
    git("add", ".")
    assert ledger.commit() == f"{clean}+"
    git("commit", "-m", "second")
    assert not ledger.commit().endswith("+")
    (tmp_path / "experiments/idea.py").write_text("x")
    assert ledger.commit().endswith("+")
