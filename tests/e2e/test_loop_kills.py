"""SIGKILL of the loop, of pytest in it, and of the agent, at random moments, with real processes on a tiny project.

Whatever is killed: no experiment is lost, none is trained twice, nothing is left running, and the next loop goes on.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_project import TinyProject, processes_of, write

from pytest_autoresearch.core.processes import Process, tree

pytestmark = [
    pytest.mark.real_process,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes of others"),
]

AGENT = '''
sleep 0.2
n=$AUTORESEARCH_ROUND$AUTORESEARCH_ATTEMPT
printf '"""Idea %s."""\\nfrom baseline import *\\n\\nWIDTH = %d\\n' $n $((16 + n)) > experiments/idea_$n.py
'''
EXPERIMENTS = 2


class Loops:
    """Loops on one project, one after the other."""

    def __init__(self, project: TinyProject) -> None:
        self.project = project
        self.agent = write(project.path / "agent.sh", AGENT)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pytest_autoresearch.cli", "loop", "--agent", f"sh {self.agent}"]
        command += ["--experiments", str(EXPERIMENTS), "--", "--ar-sandbox", "off"]
        log = (self.project.path / "loop.log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=self.project.path, stdout=log, stderr=log, start_new_session=True)

    def trained(self) -> Counter[tuple[str, str]]:
        """How often each experiment met each baseline. A promotion adds a line with the time of the verdict."""
        rows = [row for row in self.project.rows if row["description"] != "baseline"]
        verdicts = {(row["experiment"], row["baseline_sha"], row["finished_at"]) for row in rows}
        return Counter((experiment, baseline) for experiment, baseline, _ in verdicts)


def members(loop: subprocess.Popen[bytes]) -> dict[str, list[Process]]:
    """The loop's processes by their part: the loop itself, pytest, and agents."""
    found: dict[str, list[Process]] = {"loop": [], "pytest": [], "agent": []}
    for process in tree(loop.pid):
        with suppress(OSError):
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            part = "loop" if process.pid == loop.pid else "agent" if b"agent.sh" in line else "pytest"
            found[part].append(process)
    return found


def kill_one(loop: subprocess.Popen[bytes], part: str, draw: random.Random) -> None:
    """SIGKILL one process of a part, after a random time in which it may come up."""
    time.sleep(draw.uniform(0.1, 4.0))
    until = time.monotonic() + 20
    while loop.poll() is None and time.monotonic() < until:
        if there := members(loop)[part]:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(there).pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def left_running(project: TinyProject) -> list[str]:
    """Processes of the project, or of scratch folders, that are alive some seconds after the loop's end."""
    for _ in range(50):
        if not (found := [*processes_of(project.path), *scratch_processes(project)]):
            break
    return found


def scratch_processes(project: TinyProject) -> list[str]:
    """Command lines of agents that work for the project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if str(project.path).encode() in line:
                found.append(line.decode(errors="replace"))
    return found


def test_a_killed_loop_loses_nothing_and_leaves_nothing_running(project: TinyProject) -> None:
    check(project, ("loop",), random.Random(12))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_thirty_kills_lose_nothing_and_train_nothing_twice(project: TinyProject, seed: int) -> None:
    check(project, ("loop", "pytest", "agent"), random.Random(seed))


def check(project: TinyProject, parts: tuple[str, ...], draw: random.Random) -> None:
    """Kill each part once, each in a loop of its own, and let a last loop finish."""
    project.track("seeds = 2", "seeds = 1")
    loops = Loops(project)
    write(project.path / "experiments/by_a_person.py", '"""One."""\nfrom baseline import *\n\nWIDTH = 15\n')
    for part in parts:
        loop = loops.start()
        kill_one(loop, part, draw)
        if part == "loop":
            loop.wait()
            assert left_running(project) == []
        else:
            loop.wait(timeout=120)
    last = loops.start()
    assert last.wait(timeout=120) == 0, (project.path / "loop.log").read_text()
    assert left_running(project) == []
    trained = loops.trained()
    assert set(trained.values()) == {1}, trained
    files = {path.stem for path in (project.path / "experiments").glob("*.py")}
    judged = {experiment for experiment, _ in trained}
    assert "by_a_person" in judged
    assert judged <= files
    rounds = sorted((project.path / "results/cpu/rounds").iterdir())
    ends = [(each / "round.json").read_text() for each in rounds]
    assert all('"ended"' in end for end in ends)
