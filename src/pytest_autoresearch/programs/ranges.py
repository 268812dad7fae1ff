"""The values that a search may give to one constant."""

from dataclasses import dataclass
from decimal import Decimal

from pytest_autoresearch.programs.arithmetic import Value


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included: all are ints, or all floats. `log`: uniform in the logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def is_int(self) -> bool:
        return isinstance(self.low, int)

    @property
    def size(self) -> int | None:
        """How many values there are; None without a step."""
        if self.step is None:
            return None
        return int((exact(self.high) - exact(self.low)) / exact(self.step)) + 1

    def __getitem__(self, number: int) -> Value:
        """The value that lies this number of steps above low: 0.3, not 0.30000000000000004."""
        value = exact(self.low) + number * exact(self.step or 0)
        return int(value) if self.is_int else float(value)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.is_int else int | float):
            return False
        on_step = self.step is None or (exact(value) - exact(self.low)) % exact(self.step) == 0
        return self.low <= value <= self.high and on_step


@dataclass(frozen=True)
class Choices:
    """A few values, of which no two are equal."""

    values: tuple[Value, ...]

    @property
    def size(self) -> int:
        return len(self.values)

    def __getitem__(self, number: int) -> Value:
        return self.values[number]

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.values)


def exact(number: float) -> Decimal:
    """The decimal number that `repr` writes: 0.1, not 0.1000000000000000055."""
    return Decimal(repr(number))
