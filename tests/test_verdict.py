"""The sequential decision, and the test of paired differences behind it."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.verdict import Outcome, decide, paired_p_value, student_t_cdf

BASELINE = [1.900, 1.905, 1.895]


def test_seed_zero_is_asked_for_first() -> None:
    assert decide(BASELINE, [], 0.05).outcome is None


@pytest.mark.parametrize("score", [1.900, 1.9001, 2.5])
def test_not_below_the_baseline_on_seed_zero_is_discarded_after_one_run(score: float) -> None:
    decision = decide(BASELINE, [score], 0.05)
    assert decision.outcome is Outcome.DISCARDED
    assert decision.delta == pytest.approx(score - 1.900)
    assert decision.p_value is None


def test_below_on_seed_zero_asks_for_every_other_seed() -> None:
    assert decide(BASELINE, [1.85], 0.05).outcome is None
    assert decide(BASELINE, [1.85, 1.99], 0.05).outcome is None


def test_a_clear_gain_is_kept() -> None:
    decision = decide(BASELINE, [1.870, 1.876, 1.864], 0.05)
    assert decision.outcome is Outcome.KEPT
    assert decision.delta == pytest.approx(fmean([-0.030, -0.029, -0.031]))
    assert decision.p_value is not None
    assert decision.p_value < 0.05


def test_a_gain_within_noise_is_discarded() -> None:
    decision = decide(BASELINE, [1.899, 1.903, 1.896], 0.05)
    assert decision.outcome is Outcome.DISCARDED
    assert decision.p_value is not None
    assert decision.p_value > 0.05


def test_equal_differences_do_not_pass_for_certainty() -> None:
    """Three differences that agree by luck have no spread of their own: the baseline's spread tempers them."""
    decision = decide([1.90, 1.92, 1.88], [1.899, 1.919, 1.879], 0.05)
    assert decision.outcome is Outcome.DISCARDED


def test_one_seed_is_the_plain_rule() -> None:
    assert decide([1.9], [1.8999], 0.05).outcome is Outcome.KEPT
    assert decide([1.9], [1.9], 0.05).outcome is Outcome.DISCARDED


def test_without_any_noise_a_gain_is_a_gain() -> None:
    assert decide([1.9, 1.9], [1.8, 1.8], 0.05).outcome is Outcome.KEPT


def density(x: float, df: int) -> float:
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - (df + 1) / 2 * math.log1p(x * x / df)
    return math.exp(log) / math.sqrt(df * math.pi)


@given(t=st.floats(-8, 8), df=st.integers(1, 30))
def test_student_t_is_the_integral_of_its_density(t: float, df: int) -> None:
    x = np.linspace(0, t, 4001)
    y = np.array([density(value, df) for value in x])
    simpson = (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * t / 4000 / 3
    assert student_t_cdf(t, df) == pytest.approx(0.5 + simpson, abs=1e-7)


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=6), st.floats(1e-8, 1e-3))
def test_p_value_falls_as_the_gain_grows(differences: list[float], prior: float) -> None:
    better = [difference - 0.01 for difference in differences]
    assert paired_p_value(better, prior) <= paired_p_value(differences, prior) + 1e-12  # both may round to 1


def test_no_effect_nights_keep_few() -> None:
    """Where nothing has an effect, at most alpha of the judgements keep; a lucky first seed alone would keep half."""
    draw = np.random.default_rng(0)
    kept = 0
    for _ in range(2000):
        luck = draw.normal(0, 0.005, 3)
        baseline = (1.9 + luck).tolist()
        candidate = (1.9 + luck + draw.normal(0, 0.003, 3)).tolist()
        kept += decide(baseline, candidate, 0.05).outcome is Outcome.KEPT
    assert kept <= 0.05 * 2000
