"""A pytest process is started and read, and ends with the loop. Most tests start a shell script in its place."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import FakeExecutor
from kills import killed, start
from tiny_project import TinyProject, processes_of, program, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging import judge as judge_module
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import pytest_process
from pytest_autoresearch.loop.pytest_process import PytestProcess
from pytest_autoresearch.loop.queue import Queue
from pytest_autoresearch.loop.status import RunStatus

Begin = Callable[..., PytestProcess]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl and /proc")


def judge(project: TinyProject, executor: FakeExecutor, name: str = "idea", *options: str) -> PytestProcess:
    """Begin to judge one experiment."""
    folders = Project(project.path, project.path / "experiments", project.path / "baseline")
    context = Context(folders, Options(track="cpu"), executor)
    waiting = next(each for each in Queue(context).waiting() if each.name == name)
    return PytestProcess(context, waiting, options)


def await_true(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def ended(process: PytestProcess) -> PytestProcess:
    await_true(process.poll)
    return process


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    """A project with an experiment that waits, and one that is broken."""
    project.idea("idea")
    project.experiment("broken", "WIDTH = (")
    return project.fake(idea=[1.9, 1.92])


@pytest.fixture
def scripted(project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Begins to judge an experiment with a shell script for pytest; `$5` is the status file."""

    def begin(script: str, name: str = "idea", *options: str) -> PytestProcess:
        python = write(project.path / "python.sh", f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(pytest_process, "sys", SimpleNamespace(executable=str(python)))
        return judge(project, fake, name, *options)

    return begin


def test_pytest_gets_the_file_the_track_and_the_options_but_no_round(
    project: TinyProject, scripted: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_ROUND", "7")
    process = ended(scripted('echo "$@"; pwd; env; cat', "idea", "--ar-sandbox", "off"))
    words, folder, *variables = process.log.read_text().splitlines()
    status = project.path / "results/cpu/judging/idea.json"
    assert words == f"-m pytest ./experiments/idea.py --ar-status {status} --ar-track cpu --ar-sandbox off"
    assert folder == str(project.path)
    assert f"AUTORESEARCH_LOOP={os.getpid()}" in variables
    assert not [each for each in variables if each.startswith("AUTORESEARCH_ROUND")]


def test_its_status_is_what_its_file_says_while_it_runs(project: TinyProject, scripted: Begin) -> None:
    run = RunStatus("", "baseline run 1/2", "training", 0.5, 2.25)
    os.mkfifo(project.path / "go")
    process = scripted(
        f"read line < go; echo '{json.dumps(asdict(run))}' > $5; read line < go; echo '[7]' > $5; echo; cat go"
    )
    assert process.status == RunStatus("idea")
    (project.path / "go").write_text("\n")
    await_true(lambda: process.status.stage)
    assert process.status == RunStatus("idea", "baseline run 1/2", "training", 0.5, 2.25)
    (project.path / "go").write_text("\n")
    await_true(lambda: process.log.read_text())
    assert process.status.stage == "training", "a file that makes no sense changes nothing"
    assert not process.poll()
    process.kill()
    assert process.status == RunStatus("idea")
    assert not process.log.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo collecting; echo 'ERROR: train.py: changed since'; exit 4", "train.py: changed since"),
        ("echo 'ERROR: usage: x [options]'; echo 'x: error: unrecognized: --y'; exit 4", "unrecognized: --y"),
        ("echo '_ ERROR at setup of x _'; echo 'it crashed'; echo '= 1 error ='; exit 1", "it crashed"),
        ("echo 'x.py SKIPPED: only for cuda  [100%]'; echo '= 1 skipped ='", "SKIPPED: only for cuda"),
        ("echo 'INTERNALERROR> def f():'; echo 'INTERNALERROR> OSError: full'; exit 3", "OSError: full"),
        ("echo 'something \033[2J else'; echo; exit 7", r"something \x1b[2J else"),
        ("exit 7", "pytest said nothing and ended with exit code 7"),
        ("kill -9 $$", "pytest was ended by SIGKILL; its output is in results/cpu/judging/idea.log"),
    ],
)
def test_why_there_is_no_verdict_is_one_line(scripted: Begin, script: str, problem: str) -> None:
    process = ended(scripted(script))
    assert process.verdict() is None
    assert process.problem() == problem


def test_a_full_disk_keeps_pytest_from_saying_why(scripted: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    process = ended(scripted("exit 1"))
    monkeypatch.setattr(pytest_process.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert process.problem() == "pytest said nothing and ended with exit code 1, and the disk is full"


def test_what_cannot_be_started_is_one_line(project: TinyProject, fake: FakeExecutor, scripted: Begin) -> None:
    scripted("exit 0")
    (project.path / "python.sh").unlink()
    with pytest.raises(UsageError, match=r"python\.sh"):
        judge(project, fake)


def test_its_verdict_is_that_of_the_evidence_with_the_status_of_its_line(
    project: TinyProject, fake: FakeExecutor, scripted: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = scripted("exit 0")
    await_true(earlier.poll)
    assert earlier.verdict() is None
    monkeypatch.setattr(judge_module, "now", lambda precision: "2001-01-01")  # the clock may be set back meanwhile
    project.night(fake)  # as pytest would judge it
    verdict = earlier.verdict()
    assert verdict
    assert (verdict.outcome, verdict.status, verdict.replayed) == (Outcome.KEPT, "keep", False)


def test_a_replayed_verdict_counts_if_the_session_came_to_its_end(
    project: TinyProject, fake: FakeExecutor, scripted: Begin
) -> None:
    project.night(fake, finish=False)  # killed before its promotion
    assert ended(scripted("exit 3")).verdict() is None
    process = ended(scripted("exit 0"))
    project.night(fake)
    verdict = process.verdict()
    assert verdict
    assert (verdict.outcome, verdict.status, verdict.replayed) == (Outcome.KEPT, "keep", True)


def test_a_verdict_on_the_same_program_counts(project: TinyProject, fake: FakeExecutor, scripted: Begin) -> None:
    text = (project.path / "experiments/idea.py").read_text()
    process = scripted("exit 1")
    executor = project.fake(idea=[2.3])
    write(project.path / "experiments/idea.py", "from baseline import *\nWIDTH = 3\n")
    write(project.path / "experiments/other.py", text)
    project.night(executor)  # a person's session
    write(project.path / "experiments/idea.py", text)
    for path in (project.path / "results/cpu").glob("idea-*/verdict-*.json"):
        path.unlink()
    verdict = ended(process).verdict()
    assert verdict
    assert (verdict.outcome, verdict.same_as) == (Outcome.DISCARDED, "other")


@linux
def test_kill_ends_all_that_it_started(project: TinyProject, scripted: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest_process, "PATIENCE", 0.1)
    child = f"sh -c 'while :; do sleep 1; done' {project.path}"
    process = scripted(f"{child} & setsid {child} & while :; do sleep 1; done")
    await_true(lambda: len(processes_of(project.path)) == 3)
    process.kill()
    assert processes_of(project.path) == []
    assert process.poll()
    process.kill()  # again changes nothing


@linux
@pytest.mark.real_process
def test_nothing_is_left_when_the_loop_is_killed(recorded: TinyProject) -> None:
    """A real loop process, pytest and training."""
    recorded.track('limit = "60 s"', 'limit = "600 s"')
    child = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {str(recorded.path)!r}])"
    body = program(f"{child} if step == 1 else None\n        time.sleep(600 * (step == 1))")
    write(recorded.path / "experiments/endless.py", body)
    seen = recorded.path / "seen.json"

    def loop() -> None:
        process = judge(recorded, FakeExecutor(recorded.path, [], {}), "endless")
        await_true(lambda: process.status.stage == "training" or process.poll())
        seen.write_text(json.dumps(asdict(process.status)))
        time.sleep(600)

    pid = start(loop)
    await_true(seen.exists)
    await_true(lambda: any("time.sleep(600)" in line for line in processes_of(recorded.path)))
    assert json.loads(seen.read_text() or "{}").get("label") == "endless run 1/2"
    os.kill(pid, signal.SIGKILL)
    assert killed(pid)
    await_true(lambda: not processes_of(recorded.path))


@pytest.mark.real_process
def test_a_real_session_leaves_a_verdict(recorded: TinyProject) -> None:
    recorded.experiment("broken", "WIDTH = (")
    process = ended(judge(recorded, FakeExecutor(recorded.path, [], {}), "broken", "--ar-no-promote"))
    verdict = process.verdict()
    assert verdict, process.problem()
    assert (verdict.outcome, verdict.status) == (Outcome.CRASHED, "crash")
    assert [row["experiment"] for row in recorded.rows] == ["baseline", "broken"]
    assert not list(Path(process.log.parent).glob("*.json"))
