"""An agent's process: what it is given, what is kept of what it says, and that nothing of it is left in the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import start as fork
from tiny_project import write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.processes import Process, tree
from pytest_autoresearch.loop import agent
from pytest_autoresearch.loop.agent import AgentProcess, end_agents
from pytest_autoresearch.loop.guard import HEAD, TAIL

if not hasattr(os, "fork"):
    pytest.skip("agents need fork", allow_module_level=True)

ORPHANS = {
    "a child": "sleep 600 & echo $! >> pids",
    "a session of its own": "setsid sh -c 'echo $$ >> pids; exec sleep 600' &",
    "an orphan": "(setsid sh -c 'echo $$ >> pids; exec sleep 600' &)",
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux finds processes that have left their group")
each_orphan = pytest.mark.parametrize("orphan", ORPHANS.values(), ids=list(ORPHANS))


class Agents:
    """Agents in one folder, each a shell script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / "agent.log"

    def start(self, script: str, prompt: str = "the prompt", **variables: str) -> AgentProcess:
        return AgentProcess(["sh", "-c", script], self.folder, prompt, {**os.environ, **variables}, self.log)

    def run(self, script: str, prompt: str = "the prompt", **variables: str) -> AgentProcess:
        """One that has ended."""
        process = self.start(script, prompt, **variables)
        eventually(lambda: process.poll() is not None)
        return process

    def pids(self, number: int) -> list[int]:
        """The processes that have written their numbers, once there are so many."""
        path = self.folder / "pids"
        eventually(lambda: path.is_file() and path.read_text().count("\n") >= number)
        return [int(line) for line in path.read_text().split()]


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    (tmp_path / "scratch").mkdir()
    return Agents(tmp_path / "scratch")


def eventually(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lives(pid: int) -> bool:
    try:
        return Process.read(pid).alive
    except OSError:
        return False


# -- what it is given --


def test_it_works_in_the_folder_and_has_the_prompt_twice(agents: Agents) -> None:
    ended = agents.run("pwd; cat; echo; cat; cat $AUTORESEARCH_PROMPT; echo; echo $TOLD; exit 3", TOLD="a fact")
    assert ended.poll() == 3
    assert agents.log.read_text() == f"{agents.folder}\nthe prompt\nthe prompt\na fact\n"
    assert ended.seconds == ended.seconds > 0


@linux
def test_it_inherits_no_open_file(agents: Agents) -> None:
    """It could speak to the loop as if it were the guard, or write into its log."""
    agents.run("ls /proc/$$/fd")
    assert agents.log.read_text().split() == ["0", "1", "2"]


def test_who_asks_for_input_gets_none(agents: Agents) -> None:
    agents.run("cat > /dev/null; read answer || echo no answer; (read answer < /dev/tty) || echo no terminal")
    lines = agents.log.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("no answer", "no terminal")


def test_a_long_prompt_that_nobody_reads_blocks_nobody(agents: Agents) -> None:
    assert agents.run("echo done", prompt="x" * 3_000_000).last_line() == "done"


def test_the_prompt_is_not_written_through_what_an_agent_has_left(agents: Agents) -> None:
    mine = write(agents.folder.parent / "mine", "kept")
    (agents.folder / "prompt.md").symlink_to(mine)
    assert agents.run("cat prompt.md").last_line() == "the prompt"
    assert mine.read_text() == "kept"
    (agents.folder / "prompt.md").unlink()
    write(agents.folder / "prompt.md/x/y", "a folder")
    assert agents.run("cat prompt.md").last_line() == "the prompt"


def test_a_program_that_is_not_there(agents: Agents) -> None:
    with pytest.raises(UsageError, match="no-such-agent: no such program"):
        AgentProcess(["no-such-agent"], agents.folder, "", os.environ, agents.log)


def test_a_program_that_cannot_run(agents: Agents) -> None:
    write(agents.folder / "agent", "#!/no/such/interpreter\n").chmod(0o755)
    process = AgentProcess([str(agents.folder / "agent")], agents.folder, "", os.environ, agents.log)
    eventually(lambda: process.poll() is not None)
    assert process.poll() == 127
    assert "No such file" in process.last_line()


def test_a_path_of_a_program_is_as_the_user_sees_it(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(agents.folder.parent / "mine/agent", "#!/bin/sh\necho $0\n")
    path.chmod(0o755)
    monkeypatch.chdir(path.parent)
    process = AgentProcess(["./agent"], agents.folder, "", os.environ, agents.log)
    eventually(lambda: process.poll() is not None)
    assert process.last_line() == str(path)


# -- what it says --


def test_of_much_output_both_ends_are_kept(agents: Agents) -> None:
    ended = agents.run("echo first; yes | head -c 12000000; echo last")
    log = agents.log.read_bytes()
    assert len(log) < HEAD + TAIL + 100
    assert log.startswith(b"first\ny\ny\n")
    assert log.endswith(b"y\ny\nlast\n")
    left_out = 12_000_000 + len("first\nlast\n") - HEAD - TAIL
    assert log[HEAD:].startswith(f"\n[{left_out} bytes are left out here]\n".encode())
    assert ended.last_line() == "last"


def test_the_log_is_bounded_while_the_agent_works(agents: Agents) -> None:
    process = agents.start("yes | head -c 9000000; touch wrote; exec sleep 600")
    eventually((agents.folder / "wrote").exists)
    assert agents.log.stat().st_size <= HEAD + 2 * TAIL + (1 << 16)
    process.kill()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_without_room_for_a_log_the_agent_works_on(agents: Agents) -> None:
    agents.log.symlink_to("/dev/full")
    assert agents.run("yes | head -c 300000 && exit 5").poll() == 5


def test_who_closes_its_output_works_on(agents: Agents) -> None:
    ended = agents.run("echo said; exec > /dev/null 2>&1; sleep 0.2; touch done; exit 4")
    assert (ended.poll(), ended.last_line()) == (4, "said")
    assert (agents.folder / "done").exists()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (r"one\ntwo\n\n  \n", "two"),
        (r"caf\351 \377", "caf\ufffd \ufffd"),
        (r"\033[1;31mred\033[0m \033]0;title\007", r"red \x1b]0;title\x07"),
        (r"10%%\r20%%\r", "20%"),
        ("x" * 1000, "x" * 199 + "…"),
        ("", ""),
    ],
    ids=["blank lines", "not UTF-8", "escapes", "progress", "long", "nothing"],
)
def test_the_last_line_is_safe_to_show(agents: Agents, said: str, shown: str) -> None:
    assert agents.run(f"printf '{said}'").last_line() == shown


def test_a_closed_pipe_ends_its_programs_as_it_does_elsewhere(agents: Agents) -> None:
    """Python ignores that signal, and a program would inherit it."""
    agents.run("yes | head -n 1")
    assert agents.log.read_text() == "y\n"


# -- how it ends --


@linux
@each_orphan
def test_what_it_leaves_running_ends_with_it(agents: Agents, orphan: str) -> None:
    """Also where such a process holds the pipe of the output open."""
    process = agents.start(f"{orphan}\nwhile ! test -e go; do sleep 0.01; done; exit 6")
    (pid,) = agents.pids(1)
    assert lives(pid)
    (agents.folder / "go").touch()
    eventually(lambda: process.poll() is not None)
    assert process.poll() == 6
    assert not lives(pid)


@linux
@each_orphan
def test_a_kill_ends_all(agents: Agents, orphan: str) -> None:
    process = agents.start(f"{orphan}\necho $$ >> pids; exec sleep 600")
    pids = agents.pids(2)
    assert process.poll() is None
    process.kill()
    assert process.poll() == -signal.SIGKILL
    assert not any(map(lives, pids))
    process.kill()


def test_killed_from_outside_it_has_ended(agents: Agents) -> None:
    assert agents.run("kill -9 $$").poll() == -signal.SIGKILL
    assert agents.run("kill -15 $$").poll() == -signal.SIGTERM


def test_what_it_sends_to_its_group_does_not_reach_the_guard(agents: Agents) -> None:
    assert agents.run("trap '' TERM; kill -TERM 0; exit 5").poll() == 5


@linux
@each_orphan
def test_with_its_guard_all_of_it_ends(agents: Agents, orphan: str) -> None:
    process = agents.start(f"{orphan}\necho $$ >> pids; exec sleep 600")
    pids = agents.pids(2)
    os.kill(process._guard.pid, signal.SIGKILL)
    eventually(lambda: process.poll() is not None)
    assert process.poll() == -signal.SIGKILL
    eventually(lambda: not any(map(lives, pids)))  # a process that has no memory any more may take a moment to end


@linux
def test_a_guard_that_does_nothing_saves_nobody(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "GRACE", 0.1)
    orphan = "(env -i setsid sh -c 'echo $$ >> pids; exec sleep 600' &)"  # without the variable that marks it
    process = agents.start(f"{orphan}\nkill -STOP $PPID; echo $$ >> pids; exec sleep 600")
    pids = agents.pids(2)
    process.kill()
    assert not any(map(lives, [*pids, process._guard.pid]))


@linux
@each_orphan
def test_with_the_loop_all_of_it_ends(agents: Agents, orphan: str) -> None:
    def loop() -> None:
        process = agents.start(f"{orphan}\necho $$ $PPID >> pids; exec sleep 600")
        while process.poll() is None:
            time.sleep(0.1)

    child = fork(loop)
    pids = agents.pids(2)
    assert all(map(lives, pids))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    eventually(lambda: not any(map(lives, pids)))


@linux
def test_where_loop_and_guard_are_killed_the_next_loop_finds_the_rest(agents: Agents) -> None:
    other = Agents(agents.folder.parent / "other")
    other.folder.mkdir()
    spared = other.start("echo $$ >> pids; exec sleep 600")
    process = agents.start(f"echo $$ >> pids\n{ORPHANS['an orphan']}\nexec sleep 600")
    itself, pid = agents.pids(2)
    os.kill(process._guard.pid, signal.SIGKILL)
    process._guard.wait()
    eventually(lambda: not lives(itself))
    assert lives(pid)
    end_agents(agents.folder)
    eventually(lambda: not lives(pid))
    assert lives(*other.pids(1))
    spared.kill()


def test_the_guard_begins_in_milliseconds() -> None:
    """It imports nothing that it does not need."""
    code = "import sys; sys.path.append(sys.argv[1]); import pytest_autoresearch.loop.guard; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(agent.PACKAGES)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"torch", "pytest", "subprocess", "filelock", "numpy"} & set(run.stdout.split())


@linux
def test_an_agent_leaves_no_process_and_no_open_file(agents: Agents) -> None:
    before = len(os.listdir("/proc/self/fd")), len(tree(os.getpid()))
    for _ in range(3):
        agents.run("true")
    assert (len(os.listdir("/proc/self/fd")), len(tree(os.getpid()))) == before
