"""The decision after each seed: train another one, keep or discard. Pure: numbers in, a decision out.

An experiment is compared with the baseline seed by seed: for one seed both see the same data in the same order, so part
of the noise cancels in the difference of their scores. A few differences give a poor estimate of their variance, so it
is shrunk toward the known noise of the track (a moderated t-test: Smyth 2004, "Linear models and empirical Bayes
methods for assessing differential expression in microarray experiments"). `benchmarks/verdict_policy.py` compares this
rule with others in simulated sessions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.statistics import student_t_cdf

FUTILITY = 0.25
"""A p-value at or above this ends the judgement after any seed. Most ideas end after one run."""
NOISE_DF = 8
"""Degrees of freedom of the track's known noise: it weighs as much as so many differences of the experiment."""


@dataclass(frozen=True)
class Decision:
    """`outcome` is None while another seed is needed. `delta` is the mean paired difference in bits per byte."""

    outcome: Outcome | None
    delta: float | None = None
    p_value: float | None = None
    reason: str = ""


def decide(
    baseline: Sequence[float],
    scores: Sequence[float],
    alpha: float,
    noise: float | None = None,
    margin: float = 0.0,
    futility: float = FUTILITY,
) -> Decision:
    """Judge `scores` (val_bpb of seeds 0, 1, … so far) against the `baseline`'s scores of all seeds; lower is better.

    A full judgement has as many seeds as there are baseline scores. `noise` is the known standard deviation of a
    paired difference between two equally good programs. With a `margin` the test asks whether the experiment is worse
    by less than the margin, instead of whether it is better (a non-inferiority test). With a negative margin it asks
    whether the experiment is better by more than that. A p-value at or above `futility` ends the judgement after any
    seed.
    """
    differences = [score - record for score, record in zip(scores, baseline, strict=False)]
    if not differences:
        return Decision(None)
    delta = fmean(differences)
    bound = f"{margin:+.4f}" if margin else "the baseline"
    if len(baseline) == 1:
        outcome = Outcome.KEPT if delta < margin else Outcome.DISCARDED
        return Decision(outcome, delta, None, f"{'' if delta < margin else 'not '}below {bound} on the only seed")
    p_value = paired_p_value([difference - margin for difference in differences], *_prior(baseline, noise))
    if len(differences) < len(baseline) and p_value < futility:
        return Decision(None, delta, p_value)
    if len(differences) == len(baseline) and p_value < alpha:
        why = "beats the baseline by more than noise"
        if margin:
            why = f"worse by less than {margin:.4g}" if margin > 0 else f"better by more than {-margin:.4g}"
        return Decision(Outcome.KEPT, delta, p_value, why)
    if delta >= margin:
        return Decision(Outcome.DISCARDED, delta, p_value, f"not below {bound}")
    bar = alpha if len(differences) == len(baseline) else futility
    return Decision(Outcome.DISCARDED, delta, p_value, f"within noise of {bound} (p ≥ {bar:g})")


def _prior(baseline: Sequence[float], noise: float | None) -> tuple[float, int]:
    """The prior of the variance of a paired difference: (variance, its degrees of freedom).

    If the track gives no noise, the baseline's variance over seeds takes its place. That is too large if the noise of
    the two programs is strongly correlated for each seed, and half of the right value if it is independent.
    """
    return (noise**2, NOISE_DF) if noise else (variance(baseline), len(baseline) - 1)


def paired_p_value(differences: Sequence[float], prior_variance: float, prior_df: int) -> float:
    """The one-sided p-value of "the mean is not below zero" for n paired differences; n = 1 relies on the prior."""
    n = len(differences)
    delta = fmean(differences)
    own = variance(differences) if n > 1 else 0.0
    df = n - 1 + prior_df
    pooled = ((n - 1) * own + prior_df * prior_variance) / df
    if pooled == 0:
        return 0.0 if delta < 0 else 1.0
    return student_t_cdf(delta / math.sqrt(pooled / n), df)
