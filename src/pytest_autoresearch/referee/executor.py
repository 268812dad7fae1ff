"""The seam between judging and running: plain values go in, a result comes out, on whatever machine the run is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track


@dataclass(frozen=True)
class JobSpec:
    """One run to do, in plain values, so that it can travel; each host finds its own data, sandbox and device.

    `source` is trained with `seed` on `track`, on the rows that `data_key` names; the evidence goes into the folder
    `evidence`, relative to the project. `isolation` is what is wanted: "auto", "bwrap" or "off". `cpu_limit`: CPU
    seconds that the whole run may use; `first_answer`: seconds that the first answer may take longer than the usual
    one; None where the baseline does not tell.
    """

    source: str
    seed: int
    track: Track
    data_key: str
    evidence: str
    isolation: str = "auto"
    cpu_limit: float | None = None
    first_answer: float | None = None


@dataclass(frozen=True)
class RunProgress:
    """How a run goes: `stage` is "starting", "training" or "scoring", `done` 0 to 1 of it."""

    stage: str
    done: float = 0.0
    loss: float = math.nan
    tokens_per_second: float = 0.0
    seconds_left: float = math.nan


@dataclass(frozen=True)
class RunResult:
    """What came of a run. `failure` is None when it has a score; `detail` may hold the candidate's traceback."""

    seed: int
    val_bpb: float | None
    failure: Outcome | None = None
    reason: str = ""
    detail: str = ""
    interrupted: bool = False
    """Whether a signal ended it that may have come from outside: then it is worth another try."""
    steps: int = 0
    tokens: int = 0
    flop: int = 0
    spent: float = 0.0
    """What was charged, in the budget's unit."""
    free_seconds: float = 0.0
    """What import, building and compilation took without being charged."""
    first_answer: float = 0.0
    """Seconds that the first answer took longer than the usual one."""
    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    """The peak of the candidate, of a GPU's memory where there is one."""
    referee_memory_gb: float = 0.0
    """What the referee itself took of the GPU to score it."""
    isolation: str = ""
    """What was between the program and its score: "sandbox" or "process"."""
    rng_digest: list[str] = field(default_factory=list)
    """Digests of the random states that training began with."""
    curve: list[float | None] = field(default_factory=list)
    """Mean training loss (nats per token) in each hundredth of the budget."""
    scalars: dict[str, float | None] = field(default_factory=dict)
    """The last value of each other figure that the program logged; None where that was NaN or infinite."""


@dataclass(frozen=True)
class Isolation:
    """What is between a program and its score: `kind` is "sandbox" or "process", `words` say it in the header."""

    kind: str
    words: str


class Executor(Protocol):
    """Does runs, on this machine or on another."""

    def isolation(self, wanted: str, track: Track) -> Isolation:
        """What runs on a track get where "auto", "bwrap" or "off" is wanted. UsageError where that is not to be had."""

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """Train and score one program with one seed; leaves no process behind. OSError: no evidence can be written."""
