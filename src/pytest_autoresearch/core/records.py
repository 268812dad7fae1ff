"""Measurements, records and verdicts: plain values that are stored, replayed and sent between processes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from statistics import fmean
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

Checked = TypeVar("Checked")


class Outcome(StrEnum):
    """What an experiment can earn."""

    KEPT = "kept"
    DISCARDED = "discarded"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    TIMED_OUT = "timed out"
    DISQUALIFIED = "disqualified"
    TRIED = "tried"  # a trial of a sweep that has a score: one run on the search seed, no finding

    @property
    def has_score(self) -> bool:
        """Whether a verdict with this outcome has a val_bpb."""
        return self in (Outcome.KEPT, Outcome.DISCARDED, Outcome.TRIED)


@dataclass(frozen=True)
class RunStats:
    """Measurements of runs: each list has one entry per run, in the order of the seeds.

    `val_bpb` is None for a run without a score. `curve` holds the mean training loss (nats per token) in each hundredth
    of the budget. `free_seconds` are the seconds of import, building and compilation that were not charged.
    `first_answer` is by how many seconds the first answer took longer than the median answer. `tokens` is how many
    tokens were drawn. `memory_gb` is the peak. `isolation` is "sandbox" or "process": what separated the program from
    its score.
    """

    val_bpb: list[float | None] = field(default_factory=list)
    curve: list[list[float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    free_seconds: list[float] = field(default_factory=list)
    first_answer: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    memory_gb: list[float] = field(default_factory=list)
    isolation: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, results: Iterable[Any]) -> "RunStats":
        """Collect the measurements of `referee.executor.RunResult`s, which have attributes of these names."""
        results = list(results)
        return cls(**{column.name: [getattr(result, column.name) for result in results] for column in fields(cls)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunStats":
        """The inverse of `dataclasses.asdict`. TypeError or ValueError where the fields are others."""
        values = dict(values)
        values.setdefault("tokens", [0] * len(values.get("val_bpb", ())))  # older versions did not write it
        stats = check_types(cls(**values))
        if len({len(column) for column in vars(stats).values()}) > 1:
            raise ValueError("stats need an entry for each run in every list")
        return stats

    def __len__(self) -> int:
        return len(self.val_bpb)

    def __add__(self, later: "RunStats") -> "RunStats":
        """These runs and later ones."""
        return RunStats(**{name: values + getattr(later, name) for name, values in vars(self).items()})

    def first(self, count: int) -> "RunStats":
        """The first `count` of these runs."""
        return RunStats(**{name: values[:count] for name, values in vars(self).items()})

    @property
    def scores(self) -> list[float]:
        """val_bpb of the runs that have one."""
        return [score for score in self.val_bpb if score is not None]

    @property
    def peak_memory_gb(self) -> float:
        return max(self.memory_gb, default=0.0)

    def mean(self, name: str) -> float:
        """The mean over the runs of the list called `name`; 0 without runs."""
        values = getattr(self, name)
        return fmean(values) if values else 0.0


@dataclass(frozen=True)
class Record:
    """What the baseline scored on one platform, seed by seed.

    `program_sha` identifies its text; `code_sha` identifies its code, and ignores layout, comments and docstrings.
    """

    program_sha: str
    code_sha: str
    fingerprint: dict[str, str]
    stats: RunStats = field(default_factory=RunStats)
    recorded_at: str = ""
    by_hand: bool = False
    """The program was changed by hand and accepted with `--ar-record`; it was not promoted."""

    @property
    def scores(self) -> list[float]:
        """val_bpb of seeds 0, 1, …"""
        return self.stats.scores

    @property
    def val_bpb(self) -> float:
        return fmean(self.scores)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Record":
        """The inverse of `dataclasses.asdict`. TypeError, KeyError or ValueError if the fields do not match."""
        stats = RunStats.from_dict(values["stats"])
        if any(not isinstance(score, float) for score in stats.val_bpb):
            raise ValueError("a record needs a score for each seed")
        return check_types(cls(**{**values, "stats": stats}))


@dataclass(frozen=True)
class Verdict:
    """What an experiment earned, with everything that a later session needs to replay or promote it.

    - `key`: digest of everything that determines the verdict; `platform`: digest of the fingerprint alone.
    - `detail`: may hold the candidate's traceback. `tried_again`: which run was tried again, and why.
    - `note`: what the author should know besides the reason; not stored, because it depends on the session.
    - `changes`: the top-level names that the program defines otherwise than the baseline.
    - `constants`: the point of a sweep, as in `LEARNING_RATE=0.002 BATCH_SIZE=16`; "" for any other experiment.
    - `memory_growth`: peak memory relative to the baseline's, minus 1.
    - `provisional`: judged under another budget, or with fewer seeds, than the track asks for.
    - `status`: the word in the ledger, "" while the verdict has no line there.
    - `replayed`: not trained again. `same_as`: another experiment with the same program, which was the one trained.
    """

    experiment: str
    description: str
    track: str
    outcome: Outcome
    reason: str
    experiment_sha: str
    program_sha: str
    baseline_sha: str
    key: str
    platform: str
    evidence: str
    finished_at: str
    detail: str = ""
    stats: RunStats = field(default_factory=RunStats)
    baseline_scores: list[float] = field(default_factory=list)
    delta: float | None = None
    p_value: float | None = None
    memory_growth: float | None = None
    changes: list[str] = field(default_factory=list)
    constants: str = ""
    lines_added: int = 0
    lines_removed: int = 0
    simplifies: bool = False
    provisional: bool = False
    status: str = ""
    tried_again: str = ""
    note: str = ""
    replayed: bool = False
    same_as: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON and for xdist."""
        return asdict(self) | {"outcome": str(self.outcome)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Verdict":
        """The inverse of `as_dict`. TypeError, KeyError or ValueError if the fields do not match."""
        stats = RunStats.from_dict(values["stats"])
        return check_types(cls(**{**values, "outcome": Outcome(values["outcome"]), "stats": stats}))

    @property
    def scores(self) -> list[float]:
        """val_bpb of the seeds that were trained and scored: 0, 1, …"""
        return self.stats.scores

    @property
    def val_bpb(self) -> float | None:
        return fmean(self.scores) if self.scores else None

    @property
    def runs(self) -> int:
        return len(self.stats)


# -- what others have written --


def check_types(instance: Checked) -> Checked:
    """A dataclass instance whose fields were read from a file, if each has the type that it declares. TypeError."""
    for each in fields(instance):  # type: ignore[arg-type]
        if not _is_a(getattr(instance, each.name), each.type):
            raise TypeError(f"{each.name} is {getattr(instance, each.name)!r:.40}")
    return instance


def _is_a(value: object, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_a(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_is_a(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_is_a(item, inner[1]) for item in value.values())
    return type(value) in (int, float) if kind is float else isinstance(value, kind)
