"""Near misses: ideas that were almost kept, or kept and never promoted. On a later baseline they may be kept."""

from dataclasses import dataclass

from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.judging.verdict import FUTILITY
from pytest_autoresearch.research.history import Entry, History

NEAR = FUTILITY
"""A discarded idea is near if it scored lower than the baseline with a p-value below this. At the verdict's own limit
for giving up, such an idea was trained with every seed."""


@dataclass(frozen=True)
class NearMiss:
    """An idea by its latest verdict, with the baseline that it met.

    `met` is the experiment whose promotion made that baseline, "baseline" if it was recorded, and "" if the ledger does
    not know it. `promotions_since` counts the baselines after it: 0 is today's, None is unknown.
    """

    entry: Entry
    met: str
    promotions_since: int | None

    @property
    def kept(self) -> bool:
        """Whether it was kept, and outrun by another or not promoted for another reason."""
        return self.entry.outcome is Outcome.KEPT


def near_misses(history: History) -> list[NearMiss]:
    """Those that have not been promoted or clearly beaten since: first what was kept, then by p-value."""
    made = {entry.program_sha: number for number, entry in enumerate(history.baselines)}
    latest = {entry.experiment: entry for entry in history.verdicts}
    found = []
    for entry in latest.values():
        if _is_near(entry) and entry.program_sha not in made:
            number = made.get(entry.baseline_sha)
            met = "" if number is None else history.baselines[number].experiment
            since = None if number is None else len(history.baselines) - 1 - number
            found.append(NearMiss(entry, met, since))
    return sorted(found, key=lambda miss: (not miss.kept, miss.entry.p_value or 0.0, miss.entry.delta or 0.0))


def _is_near(entry: Entry) -> bool:
    if entry.outcome is Outcome.KEPT:
        return not entry.is_baseline
    return is_close(entry)


def is_close(verdict: Entry | Verdict) -> bool:
    """Whether it was discarded with a lower score than the baseline's, and a p-value below NEAR."""
    lower = verdict.delta is not None and verdict.delta < 0
    return verdict.outcome is Outcome.DISCARDED and lower and verdict.p_value is not None and verdict.p_value < NEAR
