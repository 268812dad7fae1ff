"""git, run without questions: no terminal, no editor, and an end to what waits for ever."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import cut, one_line

TIMEOUT = 120.0
"""Seconds after which a command is ended: a hook may take long, but a passphrase is never typed at night."""
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "GIT_OPTIONAL_LOCKS": "0"}


@dataclass(frozen=True)
class Done:
    """A git command that has ended. `reason` is why it failed, in one line."""

    code: int
    output: str = ""
    errors: str = ""

    @property
    def reason(self) -> str:
        """The line in which git says what is wrong, else the last line of all, which may be a hook's."""
        lines = [line for line in f"{self.output}\n{self.errors}".splitlines() if line.strip()]
        named = [line for line in lines if line.startswith(("fatal:", "error:"))]
        line = (named[-1:] or lines[-1:] or [f"exit code {self.code}; a hook may have refused"])[0]
        return cut(one_line(line.removeprefix("fatal:").removeprefix("error:")), 200)


@dataclass(frozen=True)
class Git:
    """Runs git in a folder. Paths are taken as they are, whatever characters they have."""

    folder: Path

    def run(self, *arguments: str) -> Done:
        """Run a command and wait for its end. UsageError if there is no git, or the command does not end."""
        literal = ["--literal-pathspecs"] * (arguments[0] != "check-ignore")  # which knows no patterns anyway
        command = ["git", *literal, *arguments]
        try:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | QUIET,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # no terminal to ask in, and Ctrl-C is for the loop
            )
        except OSError as error:
            raise UsageError(f"git: cannot be run: {error.strerror}") from None
        try:
            output, errors = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise UsageError(f"git {arguments[0]}: no end after {TIMEOUT:g} s; a hook or a question waits") from None
        return Done(process.returncode, output.strip(), errors.strip())

    def checked(self, *arguments: str) -> str:
        """The output of a command. UsageError if it fails, with git's reason."""
        done = self.run(*arguments)
        if done.code:
            raise UsageError(f"git {arguments[0]}: {done.reason}", f"{done.output}\n{done.errors}".strip())
        return done.output
