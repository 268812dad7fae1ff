"""How long to wait before an agent is asked again after fruitless rounds, and when to give up. Pure."""

import math
from dataclasses import dataclass

from pytest_autoresearch.core.text import counted, duration

FIRST, LONGEST = 15.0, 1800.0
"""The first wait and the longest one, in seconds. Rate limits reset."""
GIVE_UP = 10
"""The number of fruitless rounds in a row after which no agent is asked any more."""


@dataclass(frozen=True)
class Backoff:
    """The fruitless rounds in a row so far: how many, when the last one ended (s), and what was last seen."""

    fruitless: int = 0
    ended: float = -math.inf
    last: str = ""

    def plus(self, fruitful: bool, began: float, ended: float, trouble: str) -> "Backoff":
        """With one more round. Rounds that went on at the same time have the same cause, and count once."""
        if fruitful:
            return Backoff()
        if self.fruitless and began <= self.ended:
            return Backoff(self.fruitless, ended, trouble or self.last)
        return Backoff(self.fruitless + 1, ended, trouble)

    @property
    def gave_up(self) -> str:
        """Why no agent is asked any more; "" while there is hope."""
        if self.fruitless < GIVE_UP:
            return ""
        return f"{self.fruitless} rounds in a row brought nothing; the last one: {self.last or 'no experiment'}"

    def wait(self, now: float) -> float:
        """Seconds until an agent is asked again, 0 for at once."""
        if not self.fruitless:
            return 0.0
        pause = min(LONGEST, FIRST * 2.0 ** (self.fruitless - 1))
        return max(0.0, self.ended + pause - now)

    def words(self, now: float) -> str:
        """Why no agent is asked now, or ""."""
        wait = self.wait(now)
        rounds = counted(self.fruitless, "round")
        return f"{rounds} in a row brought nothing; asks again in {duration(wait)}" if wait else ""
