"""What a run has used, from the kernel, and the end of its processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_autoresearch.core.processes import Process, tree
from pytest_autoresearch.referee import usage
from pytest_autoresearch.referee.usage import ProcessTree, kilobytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

MB = 10**6
HEAD = """
import ctypes, os, signal, sys, time
def take(megabytes):
    return os.urandom(10**6) * megabytes  # written, so that it is there
def ready():
    os.write(1, b"x")
    time.sleep(600)
vfork = ctypes.PyDLL(None).vfork
"""
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a script, and wait until so many of its processes are `ready`. All of them end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str, ready: int = 1) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-S", "-c", HEAD + script]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True))
        stdout = started[-1].stdout
        assert stdout is not None
        assert len(stdout.read(ready)) == ready
        return started[-1]

    yield start
    for process in started:
        ProcessTree(process.pid, 0).kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- memory --


@pytest.mark.parametrize("name", ["VmHWM:1", "\rVmHWM:1", "\x0bVmHWM:1", "\nVmHWM:1", "\x85VmHWM:1"])
def test_a_process_does_not_say_itself_how_much_it_took(start: Start, name: str) -> None:
    process = start(f"held = take(60)\nctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\nready()")
    assert b"VmHWM:1" in Path(f"/proc/{process.pid}/status").read_bytes()
    assert kilobytes(f"{process.pid}/status", "VmHWM") * 1024 > 60 * MB
    assert ProcessTree(process.pid, 0).look().memory > 60 * MB


SPLIT = """
for _ in range(3):
    if not os.fork():
        held = take(60)
        ready()
ready()"""
SHARED = f"held = take(60)\n{SPLIT.replace('held', 'none').replace('take(60)', '0')}"
BEFORE_AN_EXEC = """
held, deep = take(60), 0
while deep < 3 and not vfork():
    deep += 1
os.write(1, b"xxx")
ready()"""
PEAK = "held = take(60)\nmuch = held * 2\ndel held\ndel much\nready()"


@pytest.mark.parametrize(
    ("script", "processes", "megabytes"),
    [(SPLIT, 4, 180), (SHARED, 4, 60), (BEFORE_AN_EXEC, 4, 60), (PEAK, 1, 180)],
    ids=["split over three", "shared by four", "before an exec", "the peak of one"],
)
def test_the_memory_of_a_run_is_that_of_its_processes_together(
    start: Start, script: str, processes: int, megabytes: int
) -> None:
    process = start(script, processes)
    assert megabytes * MB < ProcessTree(process.pid, 0).look().memory < (megabytes + 60) * MB


def test_the_peak_stays_and_is_not_looked_for_too_often(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(SPLIT, 4)
    monkeypatch.setattr(usage, "SHARE", 1e-9)
    looked = ProcessTree(process.pid, 0)
    most = looked.look().memory
    assert most > 2 * ProcessTree(process.pid, 0, adds_memory=False).look().memory
    monkeypatch.setattr(usage, "_kilobytes_of_its_own", lambda process: 1 << 40)
    assert looked.look().memory == most
    monkeypatch.setattr(usage, "_kilobytes_of_its_own", lambda process: 1 << 20)
    most = looked.look(full=True).memory
    assert most == 4 << 30
    for child in tree(process.pid)[1:]:
        os.kill(child.pid, signal.SIGKILL)
    assert looked.look().memory == most


def test_what_the_kernel_denies_is_no_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("held = take(60)\nif not os.fork():\n    ready()\nready()", 2)
    denied = "smaps_rollup"
    monkeypatch.setattr(usage, "kilobytes", lambda file, name: 0 if denied in file else kilobytes(file, name))
    assert ProcessTree(process.pid, 0).look().memory > 120 * MB  # without shares
    denied = "/"
    assert ProcessTree(process.pid, 0).look().memory == 0
    assert kilobytes("0/status", "VmHWM") == 0
    process.kill()
    while Process.read(process.pid).alive:
        time.sleep(0.001)
    assert kilobytes(f"{process.pid}/status", "VmHWM") == 0  # a zombie has no memory


# -- the end --


def test_all_that_is_below_ends_even_if_a_parent_has_stopped(start: Start) -> None:
    process = start("if not os.fork():\n    os.setsid()\n    if not os.fork(): ready()\n    ready()\nready()", 3)
    os.kill(process.pid, signal.SIGSTOP)
    ProcessTree(process.pid, 0).kill()
    assert [found.alive for found in tree(process.pid)] == [True, False]  # itself, and a child that nobody reaps


def test_those_that_lost_their_parent_end_too(start: Start) -> None:
    """As where a watcher has been killed: nothing says any more whose they were."""
    process = start("os.fork() or os.fork() or os.setsid()\nready()", 3)
    looked = ProcessTree(process.pid, 0)
    looked.look()
    orphan = tree(process.pid)[-1]
    assert orphan.group == orphan.pid
    process.kill()
    process.wait()
    assert Process.read(orphan.pid).alive
    looked.kill()
    with suppress(ProcessLookupError, FileNotFoundError):  # reaped
        assert not Process.read(orphan.pid).alive


def test_a_number_that_another_process_has_now_is_not_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("if not os.fork():\n    ready()\nready()", 2)
    looked = ProcessTree(process.pid, 0)
    looked.look()
    read = Process.read
    later = {"started": -1}
    monkeypatch.setattr(
        Process, "read", lambda pid, depth=0: Process(**vars(read(pid, depth)) | (later if not depth else {}))
    )
    assert looked._orphans() == []
    monkeypatch.undo()
    assert len(looked._orphans()) == 1
