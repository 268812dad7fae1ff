"""How the processes of a candidate end, whoever of them is left."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_autoresearch.core.processes import Process
from pytest_autoresearch.referee import process
from pytest_autoresearch.referee.process import Candidate
from pytest_autoresearch.referee.run_files import RunLog
from pytest_autoresearch.referee.usage import ProcessTree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def make_candidate(script: str) -> Any:
    """A candidate that runs a shell's script, and whose processes are listed, one number a line."""
    candidate: Any = object.__new__(Candidate)
    candidate._process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    candidate._tree = ProcessTree(candidate._process.pid, 0)
    candidate._selector = selectors.DefaultSelector()
    candidate._channel, _ = socket.socketpair()
    candidate._ended = False
    return candidate


def await_end(candidate: Any) -> None:
    while not candidate._is_gone():
        time.sleep(0.001)


def test_a_process_that_has_ended_keeps_its_number_until_its_group_is_killed() -> None:
    candidate = make_candidate("sleep 600 & echo $!; exit 3")
    child = int(candidate._process.stdout.readline())
    await_end(candidate)
    leader = Process.read(candidate._process.pid)
    assert not leader.alive  # a zombie: its number is not given to another process, and so not its group's
    assert Process.read(child).group == leader.pid
    candidate.end()
    assert candidate._process.returncode == 3
    while not is_dead(child):  # the signal is sent
        time.sleep(0.001)
    candidate.end()  # a second time does nothing


def test_a_watcher_that_does_nothing_does_not_save_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.01)
    candidate = make_candidate("setsid sleep 600 & echo $!; kill -STOP $$")
    child = int(candidate._process.stdout.readline())
    while "T" not in Path(f"/proc/{candidate._process.pid}/stat").read_text().split()[2]:
        time.sleep(0.001)
    candidate.end()
    assert candidate._process.returncode == -signal.SIGKILL
    assert is_dead(child)


def test_a_process_that_is_reaped_elsewhere_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = make_candidate("exit 3")
    candidate._process.wait()
    await_end(candidate)
    candidate = make_candidate("exit 3")
    monkeypatch.delattr(os, "waitid")  # macOS
    await_end(candidate)
    assert candidate._process.returncode == 3


def is_dead(pid: int) -> bool:
    try:
        return not Process.read(pid).alive
    except OSError:
        return True


@pytest.mark.parametrize(("on_cpu", "room"), [(True, 2e9), (False, None)])
@pytest.mark.real_process
def test_files_in_memory_have_the_room_that_the_track_allows(tmp_path: Path, on_cpu: bool, room: float | None) -> None:
    asked: list[object] = []

    class Box:
        def wrap(self, command: list[str], *readable: Path, room: float | None) -> list[str]:
            asked.append(room)
            return ["true"]

    box: Any = Box()
    with Candidate(tmp_path / "p", RunLog(tmp_path / "log"), 1, box, on_cpu, 2e9, time.monotonic(), lambda: None):
        pass
    assert asked == [room]
