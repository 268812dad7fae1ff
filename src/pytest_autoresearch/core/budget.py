"""A budget, and a meter of what a run has spent. Both sides of a run use this code, each with its own clock."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

UNITS = ("s", "flop", "steps", "tokens")


@dataclass(frozen=True)
class Budget:
    """How long a program may train.

    `amount` is in `unit`: "s" (wall clock), "flop" (matmuls and attention of the candidate), "steps" or "tokens".
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
    """Measures what a run has spent of its budget, step by step.

    The candidate's meter ends the batches. The referee's meter checks it, with the referee's own clock. Times are
    monotonic seconds; `began` is when the candidate process was started. `compiles`: the first steps may compile.
    """

    WARM_UP_STEPS = 10

    def __init__(self, budget: Budget, began: float, compiles: bool = True) -> None:
        self.budget = budget
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
        self._last_cost = 0.0

    def start(self, now: float) -> None:
        """Note that the first batch is handed out. Later calls change nothing."""
        if self._last is None:
            self._last = now
            self._startup = now - self._began

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
        self._last_cost = self.spent - before

    def finish(self, flop: int, now: float) -> None:
        """Note that `train` has returned. Work after its last step is charged like any other work."""
        self.start(now)  # a program that asked for no batch has not started before
        assert self._last is not None
        self.flop = flop
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
    def warms_up(self) -> bool:
        """Whether the run is in its first steps, which may compile: their charge may still fall."""
        return self._compiles and self.steps < self.WARM_UP_STEPS

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        return min(1.0, self.spent / self.budget.amount)

    def allows_step(self) -> bool:
        """Whether another step like the last one is allowed, and would end nearer to the budget than stopping now."""
        spent, cost = self.spent, self._last_cost
        return spent < self.budget.amount and spent + cost / 2 <= self.budget.amount and spent + cost <= self._allowed

    @property
    def _allowed(self) -> float:
        """The most that may be spent: a tenth more than the budget, because steps do not end exactly on it."""
        return self.budget.amount * (1.0 if self.budget.unit == "steps" else 1.1)

    def overspent(self) -> str:
        """A sentence if the run spent more than its budget allows, else ""."""
        hiccup = 1.0 if self.budget.unit == "s" else 0.0  # seconds that a busy machine may take in the last step
        if self.spent <= self._allowed + hiccup:
            return ""
        return f"spent {self.spent:.4g} {self.budget.unit} of a budget of {self.budget}, in {self.steps} steps"


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
