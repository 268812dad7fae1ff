"""One session of an agent: a command that runs in a scratch folder, reads a prompt, writes files, and exits."""

from collections.abc import Mapping, Sequence
from pathlib import Path


class AgentProcess:
    """An agent at work. However it ends, or the loop itself ends, every process that it started ends with it.

    The prompt is its standard input, which then ends; it has no terminal. Its output goes to `log`, of which a very
    long middle is left out.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, prompt: str, environment: Mapping[str, str], log: Path
    ) -> None:
        """Start the command in the folder. UsageError if there is no such program."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """How long it has been at work, or was."""
        raise NotImplementedError

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it is at work."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it and all processes that it started. Returns when they are gone."""
        raise NotImplementedError

    def last_line(self) -> str:
        """The last line of its output that is not blank, safe to show; "" if there is none."""
        raise NotImplementedError
