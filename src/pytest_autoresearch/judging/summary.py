"""The values that a session reports at its beginning and at its end. The plugin turns them into words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.records import Record, Verdict
from pytest_autoresearch.core.track import Track


@dataclass(frozen=True)
class Promotion:
    """A promotion at the end of a session. `before` and `after` are the baseline's val_bpb, `path` is its program."""

    verdict: Verdict
    before: float
    after: float
    path: Path


@dataclass(frozen=True)
class SessionHeader:
    """The setting in which a session judges. `record` is None if the corpus must be fetched first.

    `records_anew`: `--ar-record` was given. `provisional`: why nothing will be promoted, or "".
    """

    track: Track
    device: str
    threads: str
    isolation: str
    program: str
    record: Record | None
    records_anew: bool
    provisional: str
    promotes: bool


@dataclass(frozen=True)
class SessionSummary:
    """The results of a session. `judged` pairs the name of each experiment with its verdict.

    `stopped`: why the session stopped before it had judged all, or "". `unjudged`: how many experiments it left.
    """

    track: str
    record: Record | None
    judged: Sequence[tuple[str, Verdict]]
    promotion: Promotion | None
    notes: Sequence[str]
    interrupted: bool
    stopped: str = ""
    unjudged: int = 0
