"""The sequential decision: which seed next, or kept, or discarded. Pure: numbers in, a decision out.

A candidate is compared with the baseline seed by seed, since both see the same data in the same order for a seed and
much of the luck cancels in the difference. A few differences say little about their own spread, so their variance is
shrunk toward the seed-to-seed variance of the baseline (a moderated t-test: Smyth 2004, "Linear models and empirical
Bayes methods for assessing differential expression in microarray experiments").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, variance


class Outcome(StrEnum):
    """What an experiment can earn."""

    KEPT = "kept"
    DISCARDED = "discarded"
    CRASHED = "crashed"
    DIVERGED = "diverged"
    TIMED_OUT = "timed out"
    DISQUALIFIED = "disqualified"
    PRUNED = "pruned"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Decision:
    """`outcome` is None while another seed is needed. `delta` is the mean paired difference in bits per byte."""

    outcome: Outcome | None
    delta: float | None = None
    p_value: float | None = None
    reason: str = ""


def decide(baseline: Sequence[float], scores: Sequence[float], alpha: float) -> Decision:
    """Judge `scores` (val_bpb of seeds 0, 1, … so far) against the `baseline`'s scores of all seeds.

    The number of baseline scores is the number of seeds of a full judgement. Lower is better.
    """
    differences = [score - record for score, record in zip(scores, baseline, strict=False)]
    if not differences:
        return Decision(None)
    delta = fmean(differences)
    if differences[0] >= 0:
        return Decision(Outcome.DISCARDED, differences[0], None, "not below the baseline on seed 0")
    if len(differences) < len(baseline):
        return Decision(None, delta)
    if len(baseline) == 1:
        return Decision(Outcome.KEPT, delta, None, "below the baseline on the only seed")
    p_value = paired_p_value(differences, prior_variance=variance(baseline))
    if p_value < alpha:
        return Decision(Outcome.KEPT, delta, p_value, "beats the baseline by more than noise")
    return Decision(Outcome.DISCARDED, delta, p_value, f"within noise of the baseline (p ≥ {alpha:g})")


def paired_p_value(differences: Sequence[float], prior_variance: float) -> float:
    """One-sided p of "no better than the baseline" for n paired differences.

    The variance is pooled from the n − 1 degrees of freedom of the differences and as many of the prior: the
    baseline's own variance over seeds. Paired differences stay below it where more than half of the luck of a seed is
    shared, as with a common order of the data; where nothing is shared, p is too small by about a half.
    """
    n = len(differences)
    delta = fmean(differences)
    pooled = (variance(differences) + prior_variance) / 2
    if pooled == 0:
        return 0.0 if delta < 0 else 1.0
    return student_t_cdf(delta / math.sqrt(pooled / n), 2 * (n - 1))


def student_t_cdf(t: float, df: int) -> float:
    """P(T ≤ t) of Student's t with a whole number of degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(df))
    cos, sin = math.cos(theta), math.sin(theta)
    term = total = cos if df % 2 else 1.0
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    if df == 1:
        total = 0.0
    inside = 2 / math.pi * (theta + sin * total) if df % 2 else sin * total
    return (1 + inside) / 2
