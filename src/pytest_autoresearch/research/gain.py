"""What counts as a gain on a track: how far below the baseline an experiment must be to be kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import stdev

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.judging.verdict import decide


@dataclass(frozen=True)
class Gain:
    """The mean difference to the baseline over `seeds` that is just kept, and the difference of the first run from
    which the verdict goes on. Both are below zero, or zero where any lower score is kept."""

    delta: float
    first_run: float
    seeds: int


def least_gain(baseline: Sequence[float], track: Track) -> Gain:
    """Ask `judging.verdict.decide` itself. The differences are taken to spread as the noise says, no more and no less:
    closer ones pass with a smaller mean, wilder ones need a larger one."""
    seeds = len(baseline)
    spread = [0.0]
    if seeds > 1:
        ladder = [number - (seeds - 1) / 2 for number in range(seeds)]
        noise = track.noise or stdev(baseline)
        spread = [noise * step / stdev(ladder) for step in ladder]

    def is_kept(delta: float) -> bool:
        scores = [score + delta + luck for score, luck in zip(baseline, spread, strict=True)]
        return decide(baseline, scores, track.alpha, track.noise).outcome is Outcome.KEPT

    def goes_on(delta: float) -> bool:
        return decide(baseline, [baseline[0] + delta], track.alpha, track.noise).outcome is not Outcome.DISCARDED

    return Gain(_largest(is_kept), _largest(goes_on), seeds)


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest difference for which it holds, found by bisection; it must hold far below zero and not above."""
    low, high = -16.0, 0.0
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return round(high, 6) or 0.0
