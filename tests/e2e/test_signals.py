"""However pytest ends, no candidate outlives it, nothing on disk is broken, and the next session works."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_project import BASELINE, TinyProject, processes_of, program, write

from pytest_autoresearch.referee.sandbox import check_filter

KILLS_ITS_WATCHER = """try: os.kill(os.getppid(), 9)
            except OSError: time.sleep(99)"""


@pytest.mark.parametrize(
    ("end", "inside", "options"),
    [
        (signal.SIGINT, "time.sleep(99)", []),
        (signal.SIGTERM, "while True: pass", []),
        (signal.SIGKILL, "while True: pass", []),
        pytest.param(
            *(signal.SIGKILL, KILLS_ITS_WATCHER, ["-n", "1", "--ar-sandbox", "off"]),
            marks=pytest.mark.skipif(bool(check_filter()), reason="system calls are not filtered here"),
        ),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL", "SIGKILL-xdist-no-sandbox"],
)
def test_no_candidate_outlives_pytest(
    project: TinyProject, end: signal.Signals, inside: str, options: list[str]
) -> None:
    child = f"[sys.executable, '-c', 'import time; time.sleep(600)', {str(project.path)!r}]"
    children = f"subprocess.Popen({child}); subprocess.Popen({child}, start_new_session=True)"
    inside = f"if step == 1:\n            {children}\n            {inside}"
    write(project.path / "experiments/endless.py", program(inside))
    assert project.run("--ar-seeds", "1", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    pytest_process = start(project.path, options)
    await_step(project.path)
    assert len(processes_of(project.path)) >= 4  # the watcher, the program, and its two children
    pytest_process.send_signal(end)
    pytest_process.wait(timeout=20)
    deadline = time.monotonic() + 5
    while alive := processes_of(project.path):
        assert time.monotonic() < deadline, alive
    assert (project.path / "baseline/cpu/train.py").read_text() == BASELINE
    json.loads((project.path / "baseline/cpu/baseline.json").read_text())
    assert not list(project.path.rglob("*.tmp"))

    (project.path / "experiments/endless.py").unlink()
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    result = project.run("--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    assert "baseline recorded" not in result.stdout.str()
    assert [row["status"] for row in project.rows] == ["keep", "pass"]


def start(folder: Path, options: list[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "pytest", "experiments", "--ar-seeds", "1", "--ar-sandbox", "auto", *options]
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell has it for jobs in the background
    try:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment)
    finally:
        signal.signal(signal.SIGINT, ignored)


def await_step(folder: Path) -> None:
    """Wait until the experiment itself has a child, which it starts in its second step."""
    deadline = time.monotonic() + 60
    while not any("time.sleep(600)" in line for line in processes_of(folder)):
        assert time.monotonic() < deadline, "the run never came to its second step"
