"""What a session has to say at its beginning and at its end, as values: the terminal finds the words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.records import Record, Verdict
from pytest_autoresearch.core.track import Track


@dataclass(frozen=True)
class Promotion:
    """What a session's end did to the baseline: `before` and `after` are its val_bpb, `path` the program."""

    verdict: Verdict
    before: float
    after: float
    path: Path


@dataclass(frozen=True)
class SessionHeader:
    """What the experiments of a session are judged by. `record` is None while the corpus has to be fetched first."""

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
    """What a session did: `judged` pairs the name of each experiment with its verdict, `interrupted` says that it was
    ended early."""

    track: str
    record: Record | None
    judged: Sequence[tuple[str, Verdict]]
    promotion: Promotion | None
    notes: Sequence[str]
    interrupted: bool
