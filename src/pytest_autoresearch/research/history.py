"""The history of a track: every verdict, trial and baseline that the ledger knows, oldest first."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.ledger import IDENTITY, Ledger

_TRIAL = re.compile(r"\[\d+\]$")
"""How the names of trials end. Only trials and finalists have brackets in their names."""


@dataclass(frozen=True)
class Entry:
    """One verdict as the ledger has it. `val_bpb`, `delta` and `p_value` are None where the ledger has none.

    `changes` are the top-level names that the program defines otherwise than its baseline.
    """

    experiment: str
    description: str
    track: str
    outcome: Outcome
    status: str
    val_bpb: float | None
    delta: float | None
    p_value: float | None
    runs: int
    seconds: float
    memory_gb: float
    lines_added: int
    lines_removed: int
    changes: tuple[str, ...]
    reason: str
    program_sha: str
    baseline_sha: str
    commit: str
    finished_at: str

    @property
    def file(self) -> str:
        """The name of the experiment's file, as `file_of`."""
        return file_of(self.experiment)

    @property
    def is_baseline(self) -> bool:
        """Whether the program was the baseline from here on: recorded, or promoted."""
        return self.status == "keep"

    @property
    def is_trial(self) -> bool:
        """Whether it is a trial of a sweep, with a score or without."""
        return self.outcome is Outcome.TRIED or bool(_TRIAL.search(self.experiment))


@dataclass(frozen=True)
class Step:
    """A baseline, its gain in val_bpb (None if it was recorded), and the number of verdicts since the one before."""

    baseline: Entry
    gain: float | None
    verdicts: int


@dataclass(frozen=True)
class History:
    """What has been judged on one track, oldest first; a verdict that was promoted later is one entry."""

    track: str
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, ledger: Ledger, track: str) -> "History":
        """The ledger's lines of one track. Leaves out lines that people have broken. UsageError: it cannot be read."""
        entries: dict[tuple[str, ...], Entry] = {}
        for row in ledger.rows():
            if row.get("track") == track and (entry := _entry(row)):
                entries[tuple(row.get(name, "") for name in IDENTITY)] = entry
        return cls(track, tuple(entries.values()))

    @cached_property
    def baselines(self) -> tuple[Entry, ...]:
        """The programs to beat, in the order in which they became it; the last one is today's."""
        return tuple(entry for entry in self.entries if entry.is_baseline)

    @cached_property
    def baseline_names(self) -> dict[str, str]:
        """The experiment that each baseline was, by its hash; the first one recorded is `baseline`."""
        first = self.baselines[:1]
        return {
            entry.program_sha: entry.experiment for entry in self.baselines if entry in first or not _is_recorded(entry)
        }

    @cached_property
    def lineage(self) -> tuple[Step, ...]:
        """The baselines and what it took to find them, oldest first."""
        steps, since = [], 0
        for entry in self.entries:
            since += not entry.is_trial and not _is_recorded(entry)
            if entry.is_baseline:
                gain = None if _is_recorded(entry) or entry.delta is None else -entry.delta
                steps.append(Step(entry, gain, since))
                since = 0
        return tuple(steps)

    @cached_property
    def verdicts(self) -> tuple[Entry, ...]:
        """The verdicts on experiments: neither trials nor recorded baselines."""
        return tuple(entry for entry in self.entries if not entry.is_trial and not _is_recorded(entry))

    @cached_property
    def trials(self) -> tuple[Entry, ...]:
        """The trials of sweeps that have a score."""
        return tuple(entry for entry in self.entries if entry.outcome is Outcome.TRIED)

    @cached_property
    def since_keep(self) -> tuple[Entry, ...]:
        """The verdicts since the last keep, whether it was promoted or not."""
        kept = (number for number, entry in enumerate(self.verdicts) if entry.outcome is Outcome.KEPT)
        last = max(kept, default=-1)
        return self.verdicts[last + 1 :]


def file_of(experiment: str) -> str:
    """The name of an experiment's file: `sweep` for `sweep[07]` and `sweep[finalist-1]`."""
    return experiment.partition("[")[0]


def _is_recorded(entry: Entry) -> bool:
    return entry.experiment == "baseline" and entry.program_sha == entry.baseline_sha


def _entry(row: Mapping[str, str]) -> Entry | None:
    try:
        outcome = Outcome(row["verdict"])
        has_score = outcome.has_score and float(row["val_bpb"]) > 0
        return Entry(
            experiment=_text(row["experiment"]),
            description=_text(row["description"]),
            track=row["track"],
            outcome=outcome,
            status=row["status"],
            val_bpb=_number(row["val_bpb"]) if has_score else None,
            delta=_number(row["delta"]) if row.get("delta") else None,
            p_value=_number(row["p_value"]) if row.get("p_value") else None,
            runs=int(row.get("runs") or 0),
            seconds=float(row.get("seconds") or 0),
            memory_gb=float(row.get("memory_gb") or 0),
            lines_added=int(row.get("lines_added") or 0),
            lines_removed=int(row.get("lines_removed") or 0),
            changes=tuple(row.get("changes", "").split()),
            reason=_text(row.get("reason", "")),
            program_sha=row["program_sha"],
            baseline_sha=row["baseline_sha"],
            commit=row.get("commit", ""),
            finished_at=row.get("finished_at", ""),
        )
    except (KeyError, ValueError):
        return None


def _number(cell: str) -> float:
    """A finite number. ValueError: nan and infinity, which no verdict has."""
    if not math.isfinite(number := float(cell)):
        raise ValueError(cell)
    return number


def _text(cell: str) -> str:
    """A cell without the `'` that keeps a spreadsheet from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") and len(cell) > 1 else cell
