"""The state of a loop at one moment, in plain values: the display shows it, and prompts tell of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_autoresearch.core.records import Verdict


@dataclass(frozen=True)
class RunStatus:
    """What one pytest process does. `stage` is "" between runs, else as in `RunProgress`; `label` is `rmsnorm run 1/3`.

    `done` is the share of the stage, `loss` nats per token, `seconds_left` of the budget; None where unknown.
    """

    experiment: str
    label: str = ""
    stage: str = ""
    done: float = 0.0
    loss: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class AgentStatus:
    """An agent at work: the number of its round, for how long (s), and what it says its idea is, or ""."""

    number: int
    seconds: float
    idea: str = ""
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Status:
    """All of it. `first` and `best` are the baseline's val_bpb at the start and now; `busy` is the share of the time, 0
    to 1, in which something trained or was scored; `pause` says why no agent is asked, or is ""."""

    runs: Sequence[RunStatus] = ()
    waiting: Sequence[str] = ()
    agents: Sequence[AgentStatus] = ()
    verdicts: Sequence[Verdict] = ()
    first: float | None = None
    best: float | None = None
    hours: float = 0.0
    busy: float = 0.0
    dollars: float | None = None
    pause: str = ""
    stopping: str = ""


@dataclass(frozen=True)
class Finished:
    """A round that has ended. `files` are the experiments that came back, `refused` those that preflight refused, with
    the reasons. `trouble` says what went wrong, in words for a person, or is "": then it was not fruitless."""

    number: int
    seconds: float
    files: Sequence[str] = ()
    refused: Sequence[tuple[str, str]] = ()
    trouble: str = ""
    dollars: float | None = None
    tokens: int | None = None
    asked: int = 1
    fixes: str = ""
