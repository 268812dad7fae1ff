"""A night with agents that hang, crash, write garbage and worse: each round is a line that a person understands, and
the loop goes on to the one that behaves.

Agents are processes, and everything is real but pytest: experiments are judged in this process by a fake executor.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from fakes import FakeExecutor, Silent
from tiny_project import TinyProject

from pytest_autoresearch import cli
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.loop import backoff, supervisor, workers
from pytest_autoresearch.loop.queue import Waiting
from pytest_autoresearch.loop.status import RunStatus

if not hasattr(os, "fork"):
    pytest.skip("agents need fork", allow_module_level=True)

SCRIPTS = Path(__file__).parent / "scripted_agents"
ROUNDS = {
    "crashes": "ended with exit code 1; wrote no experiment; its last line: Error: rate limit exceeded, try again",
    "is_killed": "was ended by SIGKILL; wrote no experiment; it printed nothing",
    "does_nothing": "wrote no experiment; its last line: I was not permitted to write experiments/idea.py. Done!",
    "writes_garbage": "2 files refused, the first: ",
    "writes_ten_megabytes": "1 file refused: novel.py: 10000000 bytes of source; at most",
    "tampers": "2 files refused, the first: ",
    "prints_a_lot": "wrote no experiment; its last line: the loop has ended",
    "asks": "wrote no experiment; its last line: no terminal",
    "writes_ten": "brought idea_11, idea_12, idea_13, idea_14, idea_15 and 5 more in",
    "behaves": "brought pays in",
}
"""The scripts in their order, and how the lines of their rounds go on."""


class JudgedHere:
    """What `PytestProcess` does, in this process: a session for one experiment, with a fake executor."""

    def __init__(self, context: Context, waiting: Waiting, options: Sequence[str]) -> None:
        self.status = RunStatus(waiting.name)
        session = Session(context.project, context.options, context.executor, Silent())
        session.check()
        self._verdict = session.judge(session.plan(waiting.path))
        session.log.add(waiting.name, self._verdict)
        session.log.finish(promote=True)
        self._verdict = session.log.summary().judged[0][1]

    def poll(self) -> bool:
        return True

    def verdict(self) -> Verdict:
        return self._verdict

    def kill(self) -> None:
        """Nothing goes on."""


Loop = Callable[..., list[str]]


@pytest.fixture
def loop(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Loop:
    """Runs a loop whose agent does in each round what the next script does. Returns what it printed, without times."""
    project.idea("given")
    (tmp_path / "temporary").mkdir()
    executor = FakeExecutor(project.path, [2.0, 2.02], {"# pays #": [1.5, 1.52]})
    monkeypatch.setattr("pytest_autoresearch.cli.loop.LocalExecutor", lambda root: executor)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(workers, "PytestProcess", JudgedHere)
    monkeypatch.setattr(backoff, "FIRST", 0.0)
    monkeypatch.setattr(supervisor, "sleep", lambda seconds: time.sleep(0.01))
    monkeypatch.chdir(project.path)

    def run(scripts: Iterable[str], *options: str, code: int = 0) -> list[str]:
        (tmp_path / "order").write_text("\n".join(scripts) + "\n")
        agent = f"sh {SCRIPTS / 'night.sh'} {tmp_path / 'order'}"
        assert cli.main(["loop", "--agent", agent, "--ahead", "1", *options, "--", "--ar-sandbox", "off"]) == code
        return [re.sub(r"^\d\d:\d\d ", "", line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_whatever_an_agent_does_the_loop_goes_on(loop: Loop, project: TinyProject, tmp_path: Path) -> None:
    lines = loop(ROUNDS, "--experiments", "12")
    said = [line for line in lines if re.match(r"round \d+: ", line)]
    for number, (script, words) in enumerate(ROUNDS.items(), 1):
        assert said[number - 1].startswith(f"round {number}: {words}"), script
    assert len(said) == len(ROUNDS)
    assert all(line.isprintable() for line in lines)

    # What there was is there, and what came is judged: `given`, ten ideas, and one that is promoted.
    names = {"given", "pays", *(f"idea_{number}" for number in range(11, 21))}
    assert {path.stem for path in (project.path / "experiments").iterdir()} == names
    assert {row["experiment"] for row in project.rows} == {"baseline", *names}
    assert [row["experiment"] for row in project.rows if row["status"] == "keep"] == ["baseline", "pays"]
    baseline = (project.path / "baseline/cpu/train.py").read_text()
    assert "# pays #" in baseline
    assert "SCORE" not in baseline
    assert not (project.path / "conftest.py").exists()

    # Nothing is left: no process, no scratch folder; and logs are short.
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["outside.txt"]  # without --agent-sandbox
    assert not agents_of(tmp_path)
    rounds = project.path / "results/cpu/rounds"
    assert all(path.stat().st_size < 3e6 for path in rounds.rglob("agent-*.log"))
    facts = json.loads((rounds / "4/round.json").read_text())
    assert facts["asked"] == 3
    assert sorted(facts["refused"]) == ["bytes.py", "chat.py"]

    # The account says it all again.
    (page,) = (project.path / "results/cpu/nights").iterdir()
    account = page.read_text()
    assert "12 experiments judged, 1 kept, 1 promoted" in account
    assert 'Ended: "--experiments 12 have a verdict".' in account
    assert account.count("\n- round ") == 8
    assert '- "pays": val_bpb 2.0100 -> 1.5100' in account
    assert lines[-1].startswith(f"more in {page.relative_to(project.path)}")


def test_an_agent_that_hangs_is_ended_with_all_its_processes(
    loop: Loop, project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "GIVE_UP", 2)
    lines = loop(["hangs", "hangs"], "--agent-timeout", "0.01", code=1)
    words = "took longer than 0.01 min (--agent-timeout); wrote no experiment"
    assert [line.partition("; its")[0] for line in lines if line.startswith("round")] == [
        f"round {number}: {words}" for number in (1, 2)
    ]
    assert any(line.startswith("ended: 2 rounds in a row brought nothing; the last one: took longer") for line in lines)
    assert not any((tmp_path / "temporary").iterdir())
    assert not agents_of(tmp_path)


def agents_of(folder: Path) -> list[str]:
    """The working folders, below this one, of processes that are still there; also those that have been removed."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (cwd := os.readlink(process / "cwd")).startswith(f"{folder}/temporary/"):
                found.append(cwd)
    return found
