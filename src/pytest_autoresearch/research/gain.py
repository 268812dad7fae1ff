"""What counts as a gain on a track: how far below the baseline an experiment must be to be kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import stdev

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.judging.verdict import decide


@dataclass(frozen=True)
class Gain:
    """Two differences to the baseline in val_bpb, both at most zero.

    `delta`: the mean over all `seeds` that is just enough to be kept. `first_run`: the difference on the first seed
    that is just enough for a run on the next seed. Zero means that any lower score is enough.
    """

    delta: float
    first_run: float
    seeds: int


def least_gain(baseline: Sequence[float], track: Track) -> Gain:
    """The least gain against a baseline with these scores, one for each seed. It asks `judging.verdict.decide`.

    The differences of the seeds are assumed to have exactly the noise as their standard deviation. In a real verdict
    they vary: with a smaller one, a smaller gain is kept as well.
    """
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

    return Gain(_nearest_to_zero(is_kept), _nearest_to_zero(goes_on), seeds)


def _nearest_to_zero(holds: Callable[[float], bool]) -> float:
    """The difference nearest to zero for which `holds` is true, by bisection. It must be true for all below that."""
    low, high = -16.0, 0.0
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return round(high, 6) or 0.0
