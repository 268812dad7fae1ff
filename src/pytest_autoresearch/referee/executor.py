"""The seam between judging and running: plain values go in and a result comes out, whichever machine does the run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track


@dataclass(frozen=True)
class JobSpec:
    """One run to do, in plain values, so that it can travel; each host finds its own data, sandbox and device.

    `source` is trained with `seed` on `track`, on the rows that `data_key` names. The evidence goes into the folder
    `evidence`, relative to the project. `isolation` is what the user wants: "auto", "bwrap" or "off". Three limits come
    from the baseline's runs, None if unknown: `cpu_limit`, the CPU seconds of the whole run; `token_limit`, the tokens
    that it may draw; and `first_answer`, the seconds by which the first answer may take longer than the median answer.
    `baseline_nats` are the `row_nats` of the baseline's run with this seed, None if unknown.
    """

    source: str
    seed: int
    track: Track
    data_key: str
    evidence: str
    isolation: str = "auto"
    cpu_limit: float | None = None
    token_limit: float | None = None
    first_answer: float | None = None
    baseline_nats: Sequence[float] | None = None


@dataclass(frozen=True)
class RunProgress:
    """The state of a run: `stage` is "starting", "training" or "scoring", `done` the share of it, 0 to 1."""

    stage: str
    done: float = 0.0
    loss: float = math.nan
    tokens_per_second: float = 0.0
    seconds_left: float = math.nan


@dataclass(frozen=True)
class RunResult:
    """The result of a run. `failure` is None if it has a score. `detail` may hold the candidate's traceback."""

    seed: int
    val_bpb: float | None
    failure: Outcome | None = None
    reason: str = ""
    detail: str = ""
    interrupted: bool = False
    """A signal ended the run and may have come from outside, so the run deserves another try."""
    steps: int = 0
    tokens: int = 0
    flop: int = 0
    spent: float = 0.0
    """The charge, in the budget's unit."""
    free_seconds: float = 0.0
    """Seconds of import, building and compilation that were not charged."""
    first_answer: float = 0.0
    """Seconds by which the first answer took longer than the median answer."""
    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    """The candidate's peak memory: on the GPU if the track has one, else on the host."""
    referee_memory_gb: float = 0.0
    """The referee's own peak memory on the GPU while it scored."""
    isolation: str = ""
    """What separated the program from its score: "sandbox" or "process"."""
    rng_digest: list[str] = field(default_factory=list)
    """Digests of the random states that training began with."""
    curve: list[float | None] = field(default_factory=list)
    """Mean training loss (nats per token) in each hundredth of the budget."""
    scalars: dict[str, float | None] = field(default_factory=dict)
    """The last value of each other figure that the program logged; None if that is NaN or infinite."""
    row_nats: list[float] = field(default_factory=list)
    """The loss of each held-out row, in nats; empty without a score."""


@dataclass(frozen=True)
class Isolation:
    """What separates a program from its score: `kind` is "sandbox" or "process", `words` are for the header."""

    kind: str
    words: str


class Executor(Protocol):
    """Does runs, on this machine or on another."""

    def isolation(self, wanted: str, track: Track) -> Isolation:
        """The isolation of runs on a track, if "auto", "bwrap" or "off" is wanted. UsageError if it is unavailable."""

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """Train and score one program with one seed; leaves no process behind. OSError if it cannot write evidence."""
