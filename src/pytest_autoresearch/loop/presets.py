"""Presets: how to start known agents for one session without questions, and how to read what they cost."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a session used. `dollars` is None where the agent does not say what it cost, `tokens` likewise."""

    dollars: float | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Preset:
    """An agent that can be started. `{folder}` in the command is the scratch folder.

    `writable` are the paths below the user's home that it must be able to write in a sandbox. `usage` reads its output.
    `says_dollars`: whether that can hold a cost.
    """

    name: str
    command: tuple[str, ...]
    writable: tuple[str, ...]
    usage: Callable[[str], Usage]
    says_dollars: bool


def find_agent(words: str) -> Preset:
    """The agent for `--agent WORDS`: a preset's name, with more arguments perhaps, or any command line.

    UsageError if it is empty, or no such program is there.
    """
    raise NotImplementedError
