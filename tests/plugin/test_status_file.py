"""`--ar-status FILE` says what a session does now. In a round of an agent nothing is judged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeExecutor
from tiny_project import TinyProject

from pytest_autoresearch.plugin import hooks, status_file
from pytest_autoresearch.plugin.status_file import StatusFile
from pytest_autoresearch.referee.executor import RunProgress

IDLE = {"experiment": "", "label": "", "stage": "", "done": 0.0, "loss": None, "seconds_left": None}


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    project.idea("slower")
    return project.fake(slower=[2.3])


def test_the_file_follows_a_session(project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    path = project.path / "status.json"

    def replaced(source: Path, target: Path) -> None:
        text = Path(source).read_text()
        Path(source).rename(target)
        seen.append(json.loads(text))

    monkeypatch.setattr(status_file, "os", type("", (), {"replace": staticmethod(replaced), "environ": {}}))
    project.run("--ar-status", "status.json", "-p", "no:xdist")
    assert seen[0] == IDLE
    stages = [(each["experiment"], each["label"], each["stage"]) for each in seen]
    for label in ("baseline run 1/2", "baseline run 2/2", "slower run 1/2"):
        begins = stages.index(("slower", label, ""))
        assert stages[begins + 1 : begins + 3] == [("slower", label, "training"), ("slower", "", "")]
    assert any(label == "preparing the text" for _, label, _ in stages)
    assert seen[-1] == IDLE | {"experiment": "slower"} == json.loads(path.read_text())
    assert [each.name for each in project.path.iterdir() if "status" in each.name] == ["status.json"]


def test_numbers_are_those_of_the_run_and_unknown_ones_are_null(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with StatusFile(str(path)).during("rmsnorm", "rmsnorm run 1/3") as show:
        show(RunProgress("training", 0.25, 3.5, 1000.0, 6.0))
        assert json.loads(path.read_text()) == {
            "experiment": "rmsnorm",
            "label": "rmsnorm run 1/3",
            "stage": "training",
            "done": 0.25,
            "loss": 3.5,
            "seconds_left": 6.0,
        }
        show(RunProgress("scoring"))
        assert json.loads(path.read_text())["loss"] is None


def test_it_is_written_a_few_times_a_second_and_at_each_change_of_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = [100.0]
    monkeypatch.setattr(status_file.time, "monotonic", lambda: time[0])
    path = tmp_path / "status.json"
    with StatusFile(str(path)).during("a", "a run 1/3") as show:
        for done in (0.1, 0.2, 0.3):
            show(RunProgress("training", done))
        assert json.loads(path.read_text())["done"] == 0.1
        time[0] += 2 * status_file.EVERY
        show(RunProgress("training", 0.4))
        assert json.loads(path.read_text())["done"] == 0.4
        show(RunProgress("scoring", 0.0))
        assert json.loads(path.read_text())["stage"] == "scoring"


def test_what_goes_wrong_later_is_no_failure(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    status = StatusFile(str(folder / "status.json"))
    status.begin()
    (folder / "status.json").unlink()
    folder.rmdir()
    with status.during("a", "a run 1/3") as show:
        show(RunProgress("training"))


def test_a_file_that_cannot_be_written_is_one_error(project: TinyProject, fake: FakeExecutor) -> None:
    result = project.run("--ar-status", "missing/status.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    line = f"ERROR: --ar-status {project.path}/missing/status.json: cannot be written: No such file or directory"
    assert line in result.errlines
    assert not fake.specs


def test_in_a_round_nothing_is_judged(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_ROUND", "3")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: in a round of autoresearch loop: write the file and exit; the loop judges it" in result.errlines
    assert not fake.specs
    shown = project.run("--collect-only", "-q")
    assert shown.ret == 0
    assert "experiments/slower.py::slower" in shown.outlines


def test_a_session_whose_loop_has_ended_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr("pytest_autoresearch.core.processes.die_with_parent", lambda: called.append(True))
    hooks.end_with_loop()
    assert not called, "no loop has started this process"
    monkeypatch.setenv("AUTORESEARCH_LOOP", str(os.getppid()))
    hooks.end_with_loop()
    assert called
    assert "AUTORESEARCH_LOOP" not in os.environ, "it is for one process only"
    monkeypatch.setenv("AUTORESEARCH_LOOP", "1234567890")
    with pytest.raises(pytest.exit.Exception):
        hooks.end_with_loop()
