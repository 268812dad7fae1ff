"""How much each constant has mattered in the trials of sweeps.

The measure is the share of the variance of the scores' ranks that the constant's value explains, eta squared of the
Kruskal-Wallis test: (H − k + 1) / (n − k) for n trials in k groups (Tomczak and Tomczak 2014, "The need to report
effect size estimates revisited"). The term k − 1 takes off what groups explain by chance. Ranks, so that one trial that
went wrong does not decide. A group is one value, or a quarter of the trials where there are more values than four.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pytest_autoresearch.programs.constants import spelled_in
from pytest_autoresearch.research.history import Entry

LEAST = 8
"""The least number of trials with a constant from which its share is computed."""
GROUPS = 4
"""The most groups into which the trials are put."""


@dataclass(frozen=True)
class Importance:
    """How much the constant `name` has mattered in `trials` trials.

    `share` is from 0 to 1. `best` is its value in the best trial, and `delta` that trial's difference to the baseline
    in val_bpb, on one seed. `lowest` and `highest` bound the values that were tried; None if they are no numbers.
    """

    name: str
    share: float
    trials: int
    best: str
    delta: float
    lowest: float | None
    highest: float | None


def importances(trials: Iterable[Entry]) -> list[Importance]:
    """The constants of sweeps with enough trials and more than one value, the most important first."""
    points: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for entry in trials:
        if entry.delta is not None:
            for name, value in spelled_in(entry.description).items():
                points[name].append((value, entry.delta))
    enough = {name: of_it for name, of_it in points.items() if len(of_it) >= LEAST and len({v for v, _ in of_it}) > 1}
    found = [_importance(name, of_it) for name, of_it in enough.items()]
    return sorted(found, key=lambda one: (-one.share, one.name))


def _importance(name: str, points: Sequence[tuple[str, float]]) -> Importance:
    values = [value for value, _ in points]
    numbers = [number for value in values if (number := _number(value)) is not None]
    is_numeric = len(numbers) == len(values)
    best, delta = min(points, key=lambda point: point[1])
    ranks = _ranks([delta for _, delta in points])
    groups = _groups(numbers, ranks) if is_numeric else _by_value(values, ranks)
    ends = (min(numbers), max(numbers)) if is_numeric else (None, None)
    return Importance(name, explained(groups), len(points), best, delta, *ends)


def explained(groups: Sequence[Sequence[float]]) -> float:
    """The share of the variance of ranks that the groups explain, from 0 to 1; 0 where there is nothing to explain."""
    n, k = sum(map(len, groups)), len(groups)
    if n <= k or k < 2:
        return 0.0
    middle = (n + 1) / 2
    between = sum(len(group) * (sum(group) / len(group) - middle) ** 2 for group in groups)
    total = sum((rank - middle) ** 2 for group in groups for rank in group)
    h = (n - 1) * between / total if total else 0.0
    return min(1.0, max(0.0, (h - k + 1) / (n - k)))


def _ranks(scores: Sequence[float]) -> list[float]:
    """The rank of each score, from 1; equal scores share the mean of theirs."""
    ranks = [0.0] * len(scores)
    at = 1
    for _, equal in groupby(sorted(range(len(scores)), key=scores.__getitem__), key=scores.__getitem__):
        of_equal = list(equal)
        for index in of_equal:
            ranks[index] = at + (len(of_equal) - 1) / 2
        at += len(of_equal)
    return ranks


def _groups(numbers: Sequence[float], ranks: Sequence[float]) -> list[list[float]]:
    """The ranks by value, or by quarters of the trials. Equal values are in one group."""
    distinct = sorted(set(numbers))
    if len(distinct) <= GROUPS:
        return _by_value(numbers, ranks)
    ordered = sorted(numbers)
    edges = [ordered[len(ordered) * number // GROUPS] for number in range(1, GROUPS)]
    return _by_value([sum(number >= edge for edge in edges) for number in numbers], ranks)


def _by_value(values: Sequence[object], ranks: Sequence[float]) -> list[list[float]]:
    groups: Mapping[object, list[float]] = defaultdict(list)
    for value, rank in zip(values, ranks, strict=True):
        groups[value].append(rank)
    return list(groups.values())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
