"""A round: one agent is asked for experiments, its files are checked, and what is worth a run joins the queue.

Everything about a round is kept in `results/<track>/rounds/<number>/`: the prompt, the agent's output, `round.json`,
and the files that preflight refused. A loop that was killed leaves rounds without an end; the next loop completes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.presets import Preset
from pytest_autoresearch.loop.status import AgentStatus, Finished

ASKED_AGAIN = 2
"""How often an agent is asked to mend what preflight refused."""


@dataclass(frozen=True)
class Request:
    """What an agent is asked for. `fix` is the experiment whose crash it is to mend, or "".

    `prompt` makes the text for each session of the round, given the reasons for which files were refused, by file.
    `files` are further files for the scratch folder, by name. `timeout` is in seconds.
    """

    prompt: Callable[[dict[str, str]], str]
    files: dict[str, str]
    fix: str = ""
    timeout: float = 1800.0
    sandbox: bool = False


class Round:
    """One round, from the scratch folder to the files in the queue. `step` moves it on; it never waits."""

    def __init__(self, context: Context, agent: Preset, request: Request) -> None:
        """Make the folders and start the agent. UsageError if that cannot be done."""
        raise NotImplementedError

    @property
    def status(self) -> AgentStatus:
        """How far it is."""
        raise NotImplementedError

    def step(self) -> Finished | None:
        """Look at the agent; if it has ended, collect and check what it brought. None while the round goes on."""
        raise NotImplementedError

    def stop(self) -> Finished:
        """End the agent and the round now, and bring back what is worth a run."""
        raise NotImplementedError


def complete_rounds(context: Context) -> list[Finished]:
    """End the rounds of loops that were killed: what their agents had written is checked and comes back."""
    raise NotImplementedError


def brought_by_rounds(context: Context) -> dict[str, int]:
    """The experiments that rounds have brought, and how often each was sent back to be mended."""
    raise NotImplementedError


def rounds_folder(context: Context) -> Path:
    """`results/<track>/rounds`."""
    return context.evidence.folder / context.track.name / "rounds"
