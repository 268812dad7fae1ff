"""The options of a loop, and its limits: when it stops, how many agents it asks, what they have cost. Pure."""

from dataclasses import dataclass, replace

from pytest_autoresearch.judging.stopping import StopRule, Tally

SILENT_ROUNDS = 3
"""After so many rounds of which none said what it cost, a limit in dollars cannot be kept."""


@dataclass(frozen=True)
class LoopOptions:
    """The options of `autoresearch loop`.

    `experiments`, `hours`, `until` (val_bpb), `patience` and `dollars` are limits, None where not given. `ahead`: how
    many experiments wait while one trains. `agents`, `workers`: how many work at once. `agent_timeout` is in seconds.
    `pytest_options` are passed on.
    """

    experiments: int | None = None
    hours: float | None = None
    until: float | None = None
    patience: int | None = None
    dollars: float | None = None
    ahead: int = 2
    agents: int = 1
    workers: int = 1
    commit: bool = False
    agent_timeout: float = 1800.0
    agent_sandbox: bool = False
    pytest_options: tuple[str, ...] = ()


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
    """What the rounds of a loop have cost: the sum that they reported, in dollars, and the highest single one.

    `reports` rounds said what they cost, and `unreported` rounds did not.
    """

    reported: float = 0.0
    highest: float = 0.0
    reports: int = 0
    unreported: int = 0

    def plus(self, dollars: float | None) -> "Spending":
        """With one more round; None if it did not say what it cost."""
        if dollars is None:
            return replace(self, unreported=self.unreported + 1)
        return Spending(self.reported + dollars, max(self.highest, dollars), self.reports + 1, self.unreported)

    @property
    def dollars(self) -> float | None:
        """The sum of what was said; None if nothing was."""
        return self.reported if self.reports else None

    @property
    def charged(self) -> float:
        """What is counted against a limit: a round that said nothing counts as the highest one."""
        return self.reported + self.unreported * self.highest

    def reason(self, limit: float | None) -> str:
        """Why no agent is asked any more; "" while there is something left."""
        if limit is None:
            return ""
        if self.charged >= limit:
            return f"--cost {limit:g} is spent, ${self.charged:.2f}"
        if self.unreported >= SILENT_ROUNDS and not self.reports:
            return f"--cost {limit:g} cannot be kept: {self.unreported} rounds did not say what they cost"
        return ""

    def allows_another(self, limit: float | None, at_work: int) -> bool:
        """Whether one more agent may be asked beside those at work, if each of these costs as much as the highest."""
        return limit is None or self.charged + at_work * self.highest < limit
