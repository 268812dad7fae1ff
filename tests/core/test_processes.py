"""What is below a process, and its end, however deep it is and however it moves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pytest_autoresearch.core import processes
from pytest_autoresearch.core.processes import Process, kill, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

CHAIN = """
import ctypes, os, time
vfork = ctypes.PyDLL(None).vfork  # a parent waits in it, and its memory is not copied
deep = 0
while deep < {depth} and not vfork():
    deep += 1
    {each}
if deep == {depth}:
    os.write(1, b"x")
time.sleep(600)
"""


def start(depth: int, each: str = "pass") -> "subprocess.Popen[bytes]":
    """A process with a chain of `depth` processes below it, once that is complete."""
    script = CHAIN.format(depth=depth, each=each)
    process = subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"x"
    return process


@pytest.fixture(params=["pass", "os.setsid()"], ids=["one group", "many sessions"])
def chain(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    """1,100 processes, each the child of the one before: more than Python's limit on recursion."""
    process = start(1100, request.param)
    yield process
    process.kill()
    process.wait()


def test_a_chain_of_1100_processes_is_seen_and_ends(chain: "subprocess.Popen[bytes]") -> None:
    found = tree(chain.pid)
    assert [process.depth for process in found] == list(range(1101))
    assert found[-1].parent == found[-2].pid
    kill(found)
    for process in found:
        await_end(process)


def await_end(process: Process) -> None:
    deadline = time.monotonic() + 30
    while alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def alive(process: Process) -> bool:
    try:
        return Process.read(process.pid).alive
    except OSError:
        return False


@pytest.mark.parametrize("lists", [True, False])
def test_children_are_found_on_every_kernel(lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some keep no lists of children."""
    monkeypatch.setattr(processes, "LISTS_CHILDREN", lists)
    process = start(2)
    found = tree(process.pid)
    assert [(p.depth, p.alive, p.group) for p in found] == [(depth, True, process.pid) for depth in range(3)]
    kill(found)
    process.wait()
    assert tree(process.pid) == []


def test_a_name_does_not_shift_what_the_kernel_says() -> None:
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 1 1', 0, 0, 0)"
    process = start(0, f"pass\n{name}\nif 1:\n    pass")
    found = Process.read(process.pid)
    assert (found.alive, found.group, found.parent) == (True, process.pid, os.getpid())
    process.send_signal(signal.SIGKILL)
    while Process.read(process.pid).alive:
        time.sleep(0.001)
    process.wait()


def test_a_group_ends_with_each_of_its_members() -> None:
    """Also those that no look has found, for they may fork faster than they are found."""
    process = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
    while len(found := tree(process.pid)) < 2:
        time.sleep(0.001)
    kill(found[:1])
    process.wait()
    await_end(found[1])


def test_a_process_does_not_kill_its_own_group() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    kill(tree(process.pid))
    assert process.wait() == -signal.SIGKILL
