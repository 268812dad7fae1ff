"""The working folder of an agent: copies of what it needs, outside of the project. What comes back is read as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.judging.context import Context


@dataclass(frozen=True)
class Brought:
    """A new or changed file of a scratch folder: its path below `experiments/`, and its text.

    `problem` says in one line why it cannot be read as text (too large, a link, not UTF-8), or is "".
    """

    name: str
    text: str
    problem: str = ""


@dataclass(frozen=True)
class Scratch:
    """A scratch folder. `before` holds a digest of each file below `experiments/` as it was copied."""

    folder: Path
    before: Mapping[str, str]

    @classmethod
    def make(cls, context: Context, files: Mapping[str, str]) -> "Scratch":
        """A new folder with copies of the track, the experiments, `program.md`, `AGENTS.md`, `ideas.md` and the ledger,
        and with these other files."""
        raise NotImplementedError

    def brought(self) -> list[Brought]:
        """The new and changed `experiments/**.py`, in the order of their times. Nothing else is looked at."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the folder, whatever the agent has put into it."""
        raise NotImplementedError
