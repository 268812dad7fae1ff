"""Families of experiments: those that change the same part of the program; and why runs gave no score."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.research.history import Entry

CONSTANTS = "constants"
UNKNOWN = "not recorded"
"""The family of verdicts from before the ledger had the column `changes`."""


@dataclass(frozen=True)
class Family:
    """The verdicts on one part of the program, oldest first."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def kept(self) -> int:
        """How many were kept."""
        return sum(entry.outcome is Outcome.KEPT for entry in self.entries)

    @property
    def failed(self) -> int:
        """How many ended without a score."""
        return sum(not entry.outcome.has_score for entry in self.entries)

    @property
    def best_delta(self) -> float | None:
        """The lowest difference to a baseline in val_bpb; None without a score."""
        return min((entry.delta for entry in self.entries if entry.delta is not None), default=None)

    @property
    def since_kept(self) -> int:
        """How many were tried since the last one that was kept."""
        kept = [number for number, entry in enumerate(self.entries) if entry.outcome is Outcome.KEPT]
        return len(self.entries) - 1 - kept[-1] if kept else len(self.entries)

    @cached_property
    def not_kept(self) -> list[Entry]:
        """What was not kept, the best first; what has no score comes last."""
        others = [entry for entry in self.entries if entry.outcome is not Outcome.KEPT]
        return sorted(others, key=lambda entry: (entry.delta is None, entry.delta or 0.0))


def families(verdicts: Iterable[Entry], definitions: Collection[str]) -> list[Family]:
    """The families, the most tried first, then by the best difference.

    `definitions` are the names that the baseline binds, without its constants.

    An experiment that changes only UPPERCASE names, and no definition such as `class MLP`, is one on constants. Any
    other belongs to the definition that it changes; of several, to the one that experiments change most often.
    """
    verdicts = list(verdicts)
    tries = Counter(name for entry in verdicts for name in entry.changes)
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in verdicts:
        members[_family_of(entry, definitions, tries)].append(entry)
    found = [Family(name, tuple(entries)) for name, entries in members.items()]
    return sorted(found, key=lambda family: (-len(family.entries), family.best_delta or 0.0, family.name))


def _family_of(entry: Entry, definitions: Collection[str], tries: Counter[str]) -> str:
    if not entry.changes:
        return UNKNOWN
    code = [name for name in entry.changes if name in definitions or not name.isupper()]
    if not code:
        return CONSTANTS
    return max([name for name in code if name in definitions] or code, key=lambda name: (tries[name], name))


@dataclass(frozen=True)
class Failure:
    """Why runs ended without a score: the outcome, the reason of the latest one, and how many ended like it."""

    latest: Entry
    count: int


def failures(verdicts: Iterable[Entry]) -> list[Failure]:
    """The reasons why runs have no score, the most frequent first. Those that differ only in numbers count as one."""
    members: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in verdicts:
        if not entry.outcome.has_score:
            members[cause_of(entry)].append(entry)
    return sorted((Failure(entries[-1], len(entries)) for entries in members.values()), key=lambda found: -found.count)


def cause_of(verdict: Entry | Verdict) -> tuple[str, str]:
    """The outcome and the reason without its numbers: equal for failures that count as one."""
    return verdict.outcome, re.sub(r"\d+(?:\.\d+)?", "0", verdict.reason)
