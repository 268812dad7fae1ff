"""The limits of a loop: when it stops, how many agents it asks, and what they have cost. Numbers in, words out."""

from dataclasses import dataclass, replace

from pytest_autoresearch.judging.stopping import StopRule, Tally
from pytest_autoresearch.loop.options import LoopOptions

SILENT_ROUNDS = 3
"""After so many rounds of which none said what it cost, a limit in dollars cannot be kept."""


def stop_reason(options: LoopOptions, hours: float, trained: int, tally: Tally, record: float | None) -> str:
    """Why nothing new begins after so many hours and so many verdicts for which something trained; "" while it may.

    `tally` counts the verdicts of this loop, and `record` is the baseline's val_bpb, None if there is none yet.
    """
    if options.experiments is not None and trained >= options.experiments:
        return f"--experiments {options.experiments} have a verdict"
    rule = StopRule(options.hours, options.until, options.patience)
    return rule.reason(hours, tally, record).replace("--ar-", "--", 1)  # the same rule as one session has, for a loop


def agents_to_ask(options: LoopOptions, trained: int, judging: int, waiting: int, at_work: int) -> int:
    """How many more agents to ask for experiments.

    None where `ahead` experiments wait; with `ahead` 0, none where anything waits or trains. Under `--experiments N`
    each agent at work is expected to bring one, and no more are asked than are still needed.
    """
    if waiting >= max(1, options.ahead) or (options.ahead == 0 and judging):
        return 0
    room = options.agents - at_work
    if options.experiments is not None:
        room = min(room, options.experiments - trained - judging - waiting - at_work)
    return max(0, room)


def room_for_judging(options: LoopOptions, trained: int, judging: int, has_record: bool) -> int:
    """How many more experiments may be judged now. Only one is while the baseline has no record, which it makes."""
    room = (options.workers if has_record else 1) - judging
    if options.experiments is not None:  # each that is being judged may count
        room = min(room, options.experiments - trained - judging)
    return max(0, room)


@dataclass(frozen=True)
class Spending:
    """What the rounds of a loop have cost: what they said, in dollars, and how many said nothing."""

    said: float = 0.0
    dearest: float = 0.0
    speaking: int = 0
    silent: int = 0

    def plus(self, dollars: float | None) -> "Spending":
        """With one more round; None if it did not say what it cost."""
        if dollars is None:
            return replace(self, silent=self.silent + 1)
        return Spending(self.said + dollars, max(self.dearest, dollars), self.speaking + 1, self.silent)

    @property
    def dollars(self) -> float | None:
        """The sum of what was said; None if nothing was."""
        return self.said if self.speaking else None

    @property
    def charged(self) -> float:
        """What is counted against a limit: a round that said nothing counts as much as the dearest one."""
        return self.said + self.silent * self.dearest

    def reason(self, limit: float | None) -> str:
        """Why no agent is asked any more; "" while there is something left."""
        if limit is None:
            return ""
        if self.charged >= limit:
            return f"--cost {limit:g} is spent, ${self.charged:.2f}"
        if self.silent >= SILENT_ROUNDS and not self.speaking:
            return f"--cost {limit:g} cannot be kept: {self.silent} rounds did not say what they cost"
        return ""

    def allows_another(self, limit: float | None, at_work: int) -> bool:
        """Whether one more agent may be asked beside those at work, if each of these costs as much as the dearest."""
        return limit is None or self.charged + at_work * self.dearest < limit
