"""A budget, and what a run has spent of it. Both sides of a run measure with the same code, each by its own clock."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

UNITS = ("s", "flop", "steps", "tokens")


@dataclass(frozen=True)
class Budget:
    """How long a program may train.

    `amount` is in `unit`: "s" (wall clock), "flop" (matmuls and attention of the candidate), "steps" or "tokens".
    `startup` is the free time in seconds for import, build and compilation; `limit` the wall time in seconds of a
    whole run, past which it is timed out.
    """

    amount: float
    unit: str
    startup: float
    limit: float

    def __str__(self) -> str:
        return f"{exact(self.amount)} {self.unit}"


def exact(amount: float) -> str:
    """A number as short as it can be said without becoming another one: `5e+11`, `500000100000.0`."""
    short = f"{amount:g}"
    return short if float(short) == amount else repr(amount)


class Meter:
    """What a run has spent of its budget, step by step.

    Both sides keep one: the candidate's ends the batches, the referee's, on the referee's own clock, checks it. Times
    are monotonic seconds; `began` is when the candidate process was started.
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
        """The first batch is handed out; later calls change nothing."""
        if self._last is None:
            self._last = now
            self._startup = now - self._began

    def step(self, tokens: int, flop: int, now: float) -> None:
        """A step over `tokens` tokens has ended, `flop` in total having been counted so far."""
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
        """`train` has returned: what it did after its last step counts like any other work."""
        self.start(now)  # a program that has asked for no batch is charged for all of its time
        assert self._last is not None
        self.flop = flop
        self._finished = True
        self._afterwards += now - self._last
        self._last = now

    @property
    def spent(self) -> float:
        """In the budget's unit. Seconds leave out compilation but no training: each of the first ten steps is charged
        for its tokens at the steady rate of the later ones, and at most `budget.startup` seconds are free."""
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
        """What each of the first steps costs in seconds."""
        if not self._compiles:
            return [seconds for seconds, _ in self._warm_up]
        return [min(seconds, tokens * self._seconds_per_token) for seconds, tokens in self._warm_up]

    @property
    def free_seconds(self) -> float:
        """Seconds so far that cost nothing, as far as `budget.startup` allows."""
        return min(self._free, self.budget.startup)

    @property
    def _free(self) -> float:
        """Seconds so far that were no training."""
        return self._startup + sum(seconds for seconds, _ in self._warm_up) - sum(self._charges)

    @property
    def free_seconds_left(self) -> float:
        """What is left of the startup's free seconds."""
        return max(0.0, self.budget.startup - self._free)

    @property
    def _seconds_per_token(self) -> float:
        """The steady rate of the later steps; before there is one, the rate of the fastest step so far.

        A single step says nothing, unless training ended with it: its minute of compilation would end a short run.
        """
        if self._steady_tokens:
            return self._steady_seconds / self._steady_tokens
        if len(self._warm_up) < 2 and not self._finished:
            return 0.0
        return min((seconds / tokens for seconds, tokens in self._warm_up), default=0.0)

    @property
    def training_seconds(self) -> float:
        """Wall clock from the first batch on."""
        return self._steady_seconds + self._afterwards + sum(seconds for seconds, _ in self._warm_up)

    @property
    def warms_up(self) -> bool:
        """Whether the run is in its first steps, which may compile: what is charged for them may still fall."""
        return self._compiles and self.steps < self.WARM_UP_STEPS

    @property
    def progress(self) -> float:
        """Spent share of the budget, 0 to 1."""
        return min(1.0, self.spent / self.budget.amount)

    def allows_step(self) -> bool:
        """Whether another step like the last one ends nearer to the budget than stopping here does, and is allowed."""
        spent, cost = self.spent, self._last_cost
        return spent < self.budget.amount and spent + cost / 2 <= self.budget.amount and spent + cost <= self._allowed

    @property
    def _allowed(self) -> float:
        """What may be spent at most: a tenth more than the budget, for steps do not end on it to the dot."""
        return self.budget.amount * (1.0 if self.budget.unit == "steps" else 1.1)

    def overspent(self) -> str:
        """Why the run spent more than its budget allows, or nothing."""
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
