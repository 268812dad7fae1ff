"""What happened in one loop so far, and the figures and groups that an account of it needs."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.core.text import counted, duration
from pytest_autoresearch.loop.status import Finished, Status
from pytest_autoresearch.loop.words import dollars, refusal
from pytest_autoresearch.research.families import cause_of
from pytest_autoresearch.research.near_misses import is_close


@dataclass
class Account:
    """The events of a loop, in their order. `started` is a time in UTC, ISO 8601."""

    track: str
    agent: str
    started: str
    verdicts: list[Verdict] = field(default_factory=list)
    rounds: list[Finished] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def add_verdict(self, verdict: Verdict) -> None:
        """Add a verdict; one that was promoted afterwards takes the place of what it was before."""
        known = (verdict.experiment, verdict.key, verdict.finished_at)
        self.verdicts = [one for one in self.verdicts if (one.experiment, one.key, one.finished_at) != known]
        self.verdicts.append(verdict)

    @property
    def promoted(self) -> list[Verdict]:
        """What became the baseline, in order."""
        return [verdict for verdict in self.verdicts if verdict.status == "keep"]

    @property
    def outrun(self) -> list[Verdict]:
        """What was kept and not promoted, by the latest verdict on each experiment; the best first."""
        kept = [one for one in self._latest if one.outcome is Outcome.KEPT and one.status != "keep"]
        return sorted(kept, key=lambda one: one.delta or 0.0)

    @property
    def near(self) -> list[Verdict]:
        """What was almost kept, by the latest verdict on each experiment; the nearest first."""
        return sorted(filter(is_close, self._latest), key=lambda one: one.p_value or 0.0)

    @property
    def scored(self) -> list[Verdict]:
        """The verdicts with a score, the largest gain first."""
        return sorted((one for one in self.verdicts if one.outcome.has_score), key=lambda one: one.delta or 0.0)

    @property
    def failures(self) -> list[list[Verdict]]:
        """The verdicts without a score by their reasons, the most frequent first."""
        groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for verdict in self.verdicts:
            if not verdict.outcome.has_score:
                groups[cause_of(verdict)].append(verdict)
        return sorted(groups.values(), key=len, reverse=True)

    @property
    def crashed_again(self) -> list[str]:
        """The experiments that ended without a score more than once, and never with one."""
        scored = {one.experiment for one in self.scored}
        failed = Counter(one.experiment for one in self.verdicts if one.experiment not in scored)
        return [name for name, times in failed.items() if times > 1]

    @property
    def refused(self) -> list[str]:
        """Why preflight refused files, each in a line."""
        return [refusal(name, reason) for finished in self.rounds for name, reason in finished.refused]

    @property
    def fruitless(self) -> list[Finished]:
        """The rounds that brought nothing."""
        return [finished for finished in self.rounds if finished.trouble and not finished.files]

    @property
    def _latest(self) -> list[Verdict]:
        return list({one.experiment: one for one in self.verdicts}.values())


def gained(status: Status) -> str:
    """What the loop has gained, in bits and in per cent: `val_bpb 2.1591 -> 2.1003 (-0.0588, -2.72%)`."""
    first, best = status.first, status.best
    if first is None or best is None:
        return "the baseline has no record yet"
    if first == best:
        return f"val_bpb {best:.4f} as before"
    return f"val_bpb {first:.4f} -> {best:.4f} ({best - first:+.4f}, {(best - first) / first:+.2%})"


def counts(account: Account, status: Status) -> str:
    """`12 experiments judged, 4 kept, 4 promoted in 21 min, 3 rounds`"""
    verdicts, promoted = account.verdicts, len(account.promoted)
    kept = sum(verdict.outcome is Outcome.KEPT for verdict in verdicts)
    judged = f"{counted(len(verdicts), 'experiment')} judged, {kept} kept, {promoted} promoted"
    return f"{judged} in {duration(3600 * status.hours)}, {counted(len(account.rounds), 'round')}"


def shares(account: Account, status: Status) -> str:
    """How fast it went, how busy the device was, and what it cost."""
    parts = []
    if account.verdicts and status.hours > 0:
        parts.append(f"{len(account.verdicts) / status.hours:.1f} experiments an hour")
    parts.append(f"device busy {status.busy:.0%}")
    if status.dollars:
        parts.append(f"cost {dollars(status.dollars)}")
    return ", ".join(parts)
