"""One session of an agent: a command that runs in a scratch folder, reads a prompt, writes files, and exits."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.processes import end_marked
from pytest_autoresearch.core.text import cut, one_line
from pytest_autoresearch.referee.usage import ProcessTree

PROMPT = "AUTORESEARCH_PROMPT"
"""The variable that says where the prompt is, and marks all processes of an agent."""
GRACE = 5.0  # seconds in which the guard ends the agent's processes
LAST, WIDTH = 8_192, 200
"""Where the last line is looked for (bytes), and how much of it is shown (characters)."""
STYLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
PACKAGES = Path(__file__).parents[2]
GUARD = "import sys; sys.path.append(sys.argv.pop(1)); from pytest_autoresearch.loop.guard import main; main()"


class AgentProcess:
    """An agent at work. However it ends, or the loop itself ends, every process that it started ends with it.

    The prompt is its standard input, which then ends; it has no terminal. Its output goes to `log`, of which a very
    long middle is left out. A process of ours, the guard, stands between loop and agent.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, prompt: str, environment: Mapping[str, str], log: Path
    ) -> None:
        """Start the command in the folder. UsageError if there is no such program.

        The prompt is also a file there, which AUTORESEARCH_PROMPT names. OSError if that or the log cannot be written.
        """
        if not hasattr(os, "fork"):
            raise UsageError("agents are started only on systems with fork, such as Linux and macOS")
        program = shutil.which(command[0], path=environment.get("PATH"))
        if not program:
            raise UsageError(f"{one_line(command[0])}: no such program")
        self._log = log
        self._code: int | None = None
        self._began, self._seconds = time.monotonic(), 0.0
        self._mark = mark_of(folder)
        self._channel, theirs = socket.socketpair()
        with theirs, _prompt_file(folder, prompt) as given, log.open("w+b", buffering=0) as output:
            command = [os.path.abspath(program), *command[1:]]
            guard = [sys.executable, "-I", "-S", "-c", GUARD, str(PACKAGES), str(theirs.fileno()), str(output.fileno())]
            self._guard = subprocess.Popen(
                [*guard, self._mark, *command],
                cwd=folder,
                env={**environment, "PWD": str(folder)},
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=output,
                pass_fds=[theirs.fileno(), output.fileno()],
                start_new_session=True,
            )
        self._channel.setblocking(False)

    @property
    def seconds(self) -> float:
        """How long it has been at work, or was."""
        return self._seconds or time.monotonic() - self._began

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it is at work."""
        if self._code is None and self._guard.poll() is not None:
            self._seconds = time.monotonic() - self._began
            said = b""
            with suppress(OSError):
                said = self._channel.recv(16)
            self._channel.close()
            if not said:  # the guard was killed, and has ended nobody
                end_marked(self._mark)
            self._code = int(said or -signal.SIGKILL)
        return self._code

    def kill(self) -> None:
        """End it and all processes that it started. Returns when they are gone."""
        if self.poll() is not None:
            return
        self._channel.shutdown(socket.SHUT_WR)  # so that the guard ends them
        try:
            self._guard.wait(GRACE)
        except subprocess.TimeoutExpired:  # it was stopped
            ProcessTree(self._guard.pid, 0).kill()
            self._guard.kill()
            self._guard.wait()
        self.poll()

    def last_line(self) -> str:
        """The last line of its output that is not blank, safe to show; "" if there is none."""
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST))
            lines = STYLE.sub("", file.read(LAST).decode(errors="replace")).splitlines()
            return cut(next((line for each in reversed(lines) if (line := one_line(each))), ""), WIDTH)
        return ""


def end_agents(folder: Path) -> None:
    """End what is left of an agent in this folder whose loop and guard were killed."""
    end_marked(mark_of(folder))


def mark_of(folder: Path) -> str:
    """The environment variable that all processes of an agent in this folder have, and no others."""
    return f"{PROMPT}={folder / 'prompt.md'}"


@contextmanager
def _prompt_file(folder: Path, prompt: str) -> Iterator[IO[bytes]]:
    """Write the prompt into the folder, where an agent may have put anything, and have it open at its beginning."""
    path = folder / "prompt.md"
    remove_tree(path)
    with path.open("x+b") as file:  # never through a link
        file.write(prompt.encode(errors="replace"))
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        yield file
