"""A budget, and the referee's meter of what a run has spent."""

import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

UNITS = ("s", "flop", "steps", "tokens")


@dataclass(frozen=True)
class Budget:
    """How long a program may train.

    `amount` is in `unit`: "s" (wall clock), "flop" (products and their sums, in the candidate), "steps" or "tokens".
    `startup` is the free time in seconds for import, build and compilation. `limit` is the wall time in seconds after
    which a run is timed out.
    """

    amount: float
    unit: str
    startup: float
    limit: float

    def __str__(self) -> str:
        return f"{exact(self.amount)} {self.unit}"


def exact(amount: float) -> str:
    """The shortest text that stands for exactly this number: `5e+11`, `500000100000.0`."""
    short = f"{amount:g}"
    return short if float(short) == amount else repr(amount)


class Meter:
    """Measures what a run has spent of its budget, and decides before each batch whether the run may have it.

    Times are monotonic seconds; `began` is when the candidate process was started. `compiles`: the first steps may
    compile. `token_limit` is the most tokens that the run may draw, None for no limit. Only the referee has a meter,
    because a program could change one in its own process.
    """

    WARM_UP_STEPS = 10
    RECENT_STEPS = 10
    """A step is expected to cost, per token, as much as the second most expensive of so many last steps. The most
    expensive one may be an exception, such as a first step that also looks at the data."""
    SLACK = 0.01
    """The share of the budget by which the end of a step, or work after the last batch, may miss the budget."""

    def __init__(self, budget: Budget, began: float, compiles: bool = True, token_limit: float | None = None) -> None:
        self.budget = budget
        self.token_limit = token_limit
        self._compiles = compiles
        self.steps = 0
        self.tokens = 0
        self.flop = 0
        self._began = began
        self._last: float | None = None  # end of the last step, or start of the first
        self._startup = 0.0  # seconds until the first batch
        self._warm_up: list[tuple[float, int]] = []  # (seconds, tokens) of each of the first steps
        self._steady_seconds = 0.0
        self._steady_tokens = 0
        self._afterwards = 0.0  # seconds from the last step to the end of `train`
        self._finished = False
        self._costs: deque[float] = deque(maxlen=self.RECENT_STEPS)  # per token, of the last steps
        self._largest = 0.0  # what the most expensive step cost
        self._in_hand = 0  # tokens of the batch that the program works on
        self._spent_at_end: float | None = None  # what was spent when another batch was refused
        self._allowed_after = 0.0  # what work after the last batch may cost

    def start(self, now: float) -> None:
        """Note that the first batch is handed out. Later calls change nothing."""
        if self._last is None:
            self._last = now
            self._startup = now - self._began

    def draw(self, tokens: int, flop: int, now: float) -> bool:
        """Whether the program gets the batch of `tokens` tokens that it asks for. Asking ends the step before it.

        `flop` is the total of the run so far. See `allows_step`.
        """
        self.end_step(flop, now)
        if self.allows_step(tokens):
            self._in_hand, self._spent_at_end = tokens, None
            return True
        if self._spent_at_end is None:
            self._spent_at_end = self.spent
        return False

    def end_step(self, flop: int, now: float) -> None:
        """Note that the program is done with the batch in hand, if it has one."""
        if self._in_hand:
            self.step(self._in_hand, flop, now)
            self._in_hand = 0
        self.flop = flop

    def step(self, tokens: int, flop: int, now: float) -> None:
        """Note the end of a step over `tokens` tokens. `flop` is the total of the run so far."""
        before = self.spent
        self.start(now)
        assert self._last is not None
        seconds, self._last = now - self._last, now
        self.steps += 1
        self.tokens += tokens
        self.flop = flop
        if self.steps <= self.WARM_UP_STEPS:
            self._warm_up.append((seconds, tokens))
        else:
            self._steady_seconds += seconds
            self._steady_tokens += tokens
        cost = max(0.0, self.spent - before)
        self._costs.append(cost / tokens)
        self._largest = max(self._largest, cost)

    def finish(self, flop: int, now: float) -> None:
        """Note that `train` has returned. Work after its last step is charged like any other work."""
        self._allowed_after = self._tolerance(self._largest)  # before the last step ends, which may have been stretched
        self.end_step(flop, now)
        self.start(now)  # a program that asked for no batch has not started before
        assert self._last is not None
        self._finished = True
        self._afterwards += now - self._last
        self._last = now

    @property
    def spent(self) -> float:
        """What is charged so far, in the budget's unit.

        Seconds do not include compilation: each of the first ten steps is charged for its tokens at the steady rate of
        the later steps. At most `budget.startup` seconds are free in this way.
        """
        match self.budget.unit:
            case "steps":
                return self.steps
            case "tokens":
                return self.tokens
            case "flop":
                return self.flop
        charged = sum(self._charges)
        return self._steady_seconds + self._afterwards + charged + max(0.0, self._free - self.budget.startup)

    @property
    def _charges(self) -> list[float]:
        """The seconds charged for each of the first steps."""
        if not self._compiles:
            return [seconds for seconds, _ in self._warm_up]
        return [min(seconds, tokens * self._seconds_per_token) for seconds, tokens in self._warm_up]

    @property
    def free_seconds(self) -> float:
        """Seconds so far that are not charged: at most `budget.startup`."""
        return min(self._free, self.budget.startup)

    @property
    def _free(self) -> float:
        """Seconds so far that were not training."""
        return self._startup + sum(seconds for seconds, _ in self._warm_up) - sum(self._charges)

    @property
    def _seconds_per_token(self) -> float:
        """The rate of the steps after the first ten; before those, the rate of the fastest step so far.

        0 after a single step, unless training has ended: that step may be a minute of compilation.
        """
        if self._steady_tokens:
            return self._steady_seconds / self._steady_tokens
        if len(self._warm_up) < 2 and not self._finished:
            return 0.0
        return min((seconds / tokens for seconds, tokens in self._warm_up), default=0.0)

    @property
    def training_seconds(self) -> float:
        """Wall time since the first batch, in seconds."""
        return self._steady_seconds + self._afterwards + sum(seconds for seconds, _ in self._warm_up)

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, or of the tokens that may be drawn if that is more: 0 to 1."""
        drawn = (self.tokens + self._in_hand) / self.token_limit if self.token_limit else 0.0
        return min(1.0, max(self.spent / self.budget.amount, drawn))

    def allows_step(self, tokens: int) -> bool:
        """Whether another step, over `tokens` tokens, is allowed and would end nearer to the budget than stopping."""
        if self.token_limit and self.tokens + tokens > self.token_limit:
            return False
        likely = sorted(self._costs)[-2:][:1] or [0.0]
        cost = 1.0 if self.budget.unit == "steps" else tokens * likely[0]
        return self.spent < self.budget.amount and self.spent + cost <= self.budget.amount + self._tolerance(cost)

    def _tolerance(self, cost: float) -> float:
        """How much more than the budget may be spent if a step costs `cost`: half a step, and at most SLACK.

        The budget usually ends within a step. A budget in steps ends with one, so there it is 0.
        """
        return 0.0 if self.budget.unit == "steps" else min(cost / 2, self.SLACK * self.budget.amount)

    @property
    def refused_for_tokens(self) -> bool:
        """Whether the limit on tokens ended the batches, not the budget."""
        nearly_all = (1 - 2 * self.SLACK) * self.budget.amount
        return bool(self.token_limit) and self._spent_at_end is not None and self._spent_at_end < nearly_all

    def overspent(self) -> str:
        """A sentence if the run spent more than its budget allows, else "".

        The last step was allowed, so it may cost a little more than expected: up to 2 · SLACK beyond the budget. Work
        after it may cost half of the most expensive step, and at most SLACK of the budget.
        """
        amount, unit = self.budget.amount, self.budget.unit
        hiccup = 1.0 if unit == "s" else 0.0  # seconds that a busy machine may take in the last step
        at_end = self._spent_at_end or 0.0
        most_at_end = amount * (1.0 if unit == "steps" else 1 + 2 * self.SLACK)
        if self.spent <= max(amount, min(at_end, most_at_end)) + self._allowed_after + hiccup:
            return ""
        after = self.spent - at_end
        words = f", {after:.3g} of it after the last batch" if at_end and after else ""
        return f"spent {self.spent:.4g} {unit} of a budget of {self.budget}, in {self.steps} steps{words}"


def parse_amount(text: object, units: Sequence[str] = UNITS) -> tuple[float, str]:
    """`"1.5e12 flop"` → `(1.5e12, "flop")`. ValueError says what is allowed."""
    allowed = "a positive number and a unit, as in " + " or ".join(f'"5 {unit}"' for unit in units)
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]+)\s*", text) if isinstance(text, str) else None
    try:
        amount, unit = float(match[1]), match[2]  # type: ignore[index]
    except (TypeError, ValueError):
        raise ValueError(allowed) from None
    if unit not in units or not 0 < amount < math.inf:
        raise ValueError(allowed)
    if unit == "steps" and amount != int(amount):
        raise ValueError("a whole number of steps")
    return amount, unit
