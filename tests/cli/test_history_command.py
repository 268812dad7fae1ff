"""`autoresearch history`: the ledger as a table, as JSON, and as a lineage."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result, verdict_of

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.records import Outcome, Record, RunStats
from pytest_autoresearch.judging.ledger import Ledger

Say = Callable[..., str]
NASTY = r"\x1b[2Jnasty"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without verdicts."""
    (tmp_path / "baseline/cpu").mkdir(parents=True)
    track = Path(__file__).parents[2] / "baseline/cpu/track.toml"
    (tmp_path / "baseline/cpu/track.toml").write_text(track.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ledger(root: Path) -> Ledger:
    """A recorded baseline, one promotion, and verdicts of several outcomes before and after it."""
    ledger = Ledger(root)
    ledger.log_baseline("cpu", Record("b" * 64, "c" * 64, {}, RunStats.of([result(0, 2.0)]), "2026-01-01T00:00:00"))

    def log(day: int, experiment: str, outcome: Outcome = Outcome.DISCARDED, **changes: object) -> None:
        at = f"2026-01-{day:02d}T10:00:00+00:00"
        values = {"experiment": experiment, "description": f"Idea {experiment}", "outcome": outcome, **changes}
        verdict = replace(verdict_of(finished_at=at, program_sha=f"{day}" * 64), **values)  # type: ignore[arg-type]
        ledger.log(replace(verdict, status="keep") if outcome is Outcome.KEPT else verdict)

    log(3, "late", delta=0.02, changes=["MLP"])
    log(2, "early", delta=0.01, changes=["WIDTH"])
    log(4, "good", Outcome.KEPT, delta=-0.1)
    log(5, "\x1b[2Jnasty", Outcome.OUT_OF_MEMORY, delta=None, baseline_sha="4" * 64, description="=1 " + "x" * 300)
    log(6, "sweep[01]", Outcome.TRIED, delta=0.3, baseline_sha="9" * 64)
    log(7, "far", track="cpu@4steps")
    return ledger


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """What `autoresearch history` prints."""

    def run(*options: str, track: str = "cpu") -> str:
        assert main(["--track", track, "history", *options]) == 0
        return capsys.readouterr().out

    return run


def experiments(text: str) -> list[str]:
    return [verdict["experiment"] for verdict in json.loads(text)["verdicts"]]


@pytest.mark.usefixtures("ledger")
def test_every_verdict_is_a_line_and_the_lineage_is_below(say: Say) -> None:
    lines = say().splitlines()
    assert [line.split()[2] for line in lines[2:6]] == ["early", "late", "good", NASTY]
    assert lines[2].split()[3:] == ["1.2500", "+0.0100", "DISCARDED", "baseline", "WIDTH", "Idea", "early"]
    assert "KEPT, promoted" in lines[4]
    assert lines[5].split()[3:7] == ["OUT", "OF", "MEMORY", "good"]  # which baseline it met
    assert lines[5].endswith("=1 " + "x" * 300)
    assert [line.split() for line in lines[7:]] == [
        ["baseline", "val_bpb", "gain", "verdicts"],
        ["----------", "---------", "------", "----------"],
        ["baseline", "2.0000"],
        ["good", "1.2500", "0.1000", "3"],
        ["1", "verdict", "since", "the", "last", "keep;", "1", "trial", "of", "sweeps", "(--trials", "shows", "them)"],
    ]


@pytest.mark.usefixtures("ledger")
def test_a_terminal_cuts_what_is_too_long(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "110")
    lines = say().splitlines()
    assert max(map(len, lines)) == 110
    assert lines[5].endswith("=1 xxx…") or lines[5].endswith("x…")


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["early", "late", "good", NASTY]),
        (["--trials"], ["early", "late", "good", NASTY, "sweep[01]"]),
        (["--sort", "delta"], ["good", "early", "late", NASTY]),
        (["--sort=-delta"], ["late", "early", "good", NASTY]),
        (["--outcome", "kept", "--outcome", "out-of-memory"], ["good", NASTY]),
        (["--outcome", "tried"], ["sweep[01]"]),
        (["--match", "mlp"], ["late"]),
        (["--match", "IDEA EARLY"], ["early"]),
        (["--last", "2", "--sort=-when"], [NASTY, "good"]),
        (["--lineage"], []),
    ],
)
def test_sorting_and_choosing(say: Say, options: list[str], names: list[str]) -> None:
    assert experiments(say("--json", *options)) == names


@pytest.mark.usefixtures("ledger")
def test_json_has_plain_values(say: Say) -> None:
    document = json.loads(say("--json"))
    assert document.keys() == {"track", "verdicts", "lineage", "since_keep"}
    assert document["track"] == "cpu"
    assert document["since_keep"] == 1
    first = document["verdicts"][0]
    expected = {"outcome": "discarded", "delta": 0.01, "changes": ["WIDTH"], "baseline": "baseline", "promoted": False}
    assert first | expected == first
    assert document["verdicts"][-1]["val_bpb"] is None
    assert [(step["experiment"], step["gain"], step["verdicts"]) for step in document["lineage"]] == [
        ("baseline", None, 0),
        ("good", 0.1, 3),
    ]


def test_cells_that_people_have_edited_are_escaped(ledger: Ledger, say: Say) -> None:
    text = ledger.path.read_text()
    ledger.path.write_text(text.replace("late", "la\x1bte").replace("WIDTH", "WI\x1bDTH").replace("2026-01-02", "\x1b"))
    assert "\x1b" not in say()
    assert r"la\x1bte" in say()


def test_a_baseline_that_was_changed_by_hand_goes_by_its_hash(ledger: Ledger, say: Say) -> None:
    stats = RunStats.of([result(0, 1.5)])
    ledger.log_baseline("cpu", Record("abcdef0" * 9, "c", {}, stats, "2026-01-08T00:00:00", by_hand=True))
    assert say("--lineage").splitlines()[-2].split() == ["abcdef0", "1.5000"]


@pytest.mark.usefixtures("ledger")
def test_a_quick_look_has_a_history_of_its_own(say: Say) -> None:
    assert experiments(say("--json", track="cpu@4steps")) == ["far"]
    assert say(track="cpu@5steps") == (
        "track cpu@5steps: no verdict yet; the ledger has: cpu, cpu@4steps; "
        "`pytest experiments --ar-track cpu` judges every experiment\n"
    )


@pytest.mark.usefixtures("root")
def test_without_a_verdict_there_is_one_friendly_line(say: Say) -> None:
    assert say() == "track cpu: no verdict yet; `pytest experiments --ar-track cpu` judges every experiment\n"
    assert json.loads(say("--json")) == {"track": "cpu", "verdicts": [], "lineage": [], "since_keep": 0}


@pytest.mark.usefixtures("ledger")
def test_an_unknown_column_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--sort=-dalta"]) == 2
    assert capsys.readouterr().err == "autoresearch: --sort -dalta: no such column; did you mean `delta`?\n"


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("number", ["0", "-1"])
def test_the_latest_none_are_an_error(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", f"--last={number}"]) == 2
    assert capsys.readouterr().err == f"autoresearch: --last {number}: must be at least 1\n"


@pytest.mark.usefixtures("ledger")
def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m pytest_autoresearch.cli --track cpu history | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ)
    assert done.stderr == ""
