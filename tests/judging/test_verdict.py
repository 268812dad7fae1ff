"""The sequential decision, and the test of paired differences behind it."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.judging.verdict import Outcome, decide, paired_p_value, student_t_cdf

BASELINE = [1.900, 1.905, 1.895]
NOISE = 0.004


def test_seed_zero_is_asked_for_first() -> None:
    assert decide(BASELINE, [], 0.05).outcome is None


@pytest.mark.parametrize("score", [1.900, 1.9001, 2.5])
def test_not_below_the_baseline_on_seed_zero_is_discarded_after_one_run(score: float) -> None:
    decision = decide(BASELINE, [score], 0.05, NOISE)
    assert decision.outcome is Outcome.DISCARDED
    assert decision.delta == pytest.approx(score - 1.900)
    assert decision.reason == "not below the baseline"


def test_one_seed_is_enough_to_give_up_on_a_gain_that_luck_explains() -> None:
    decision = decide(BASELINE, [1.899], 0.05, NOISE)
    assert decision.outcome is Outcome.DISCARDED
    assert decision.reason == "within noise of the baseline (p ≥ 0.25)"


@pytest.mark.parametrize("scores", [[1.85], [1.85, 1.90], [1.896]])
def test_what_looks_good_is_asked_for_every_other_seed(scores: list[float]) -> None:
    assert decide(BASELINE, scores, 0.05, NOISE).outcome is None


def test_a_gain_that_the_second_seed_does_not_bear_out_ends_there() -> None:
    assert decide(BASELINE, [1.89, 1.93], 0.05, NOISE).outcome is Outcome.DISCARDED


def test_a_clear_gain_is_kept() -> None:
    decision = decide(BASELINE, [1.870, 1.876, 1.864], 0.05)
    assert decision.outcome is Outcome.KEPT
    assert decision.delta == pytest.approx(fmean([-0.030, -0.029, -0.031]))
    assert decision.p_value is not None
    assert decision.p_value < 0.05


def test_a_gain_within_noise_is_discarded() -> None:
    decision = decide(BASELINE, [1.896, 1.903, 1.894], 0.05, NOISE)
    assert decision.outcome is Outcome.DISCARDED
    assert decision.p_value is not None
    assert 0.05 < decision.p_value < 0.25


@pytest.mark.parametrize("noise", [None, 0.01])
def test_equal_differences_do_not_pass_for_certainty(noise: float | None) -> None:
    """Three differences that agree by luck have no spread of their own: what is known of the noise tempers them."""
    decision = decide([1.90, 1.92, 1.88], [1.899, 1.919, 1.879], 0.05, noise)
    assert decision.outcome is Outcome.DISCARDED


def test_a_spread_of_its_own_counts_as_well() -> None:
    steady = decide(BASELINE, [1.890, 1.895, 1.885], 0.05, NOISE)
    erratic = decide(BASELINE, [1.890, 1.865, 1.915], 0.05, NOISE)
    assert steady.delta == pytest.approx(erratic.delta)
    assert steady.outcome is Outcome.KEPT
    assert erratic.outcome is Outcome.DISCARDED


def test_one_seed_is_the_plain_rule() -> None:
    assert decide([1.9], [1.8999], 0.05).outcome is Outcome.KEPT
    assert decide([1.9], [1.9], 0.05).outcome is Outcome.DISCARDED


def test_without_any_noise_a_gain_is_a_gain() -> None:
    assert decide([1.9, 1.9], [1.8, 1.8], 0.05).outcome is Outcome.KEPT


def test_with_a_margin_as_good_is_good_enough_and_worse_is_not() -> None:
    as_good = decide(BASELINE, [1.901, 1.904, 1.895], 0.05, NOISE, margin=0.01)
    assert as_good.outcome is Outcome.KEPT
    assert as_good.reason == "worse by less than 0.01"
    assert decide(BASELINE, [1.909, 1.914, 1.904], 0.05, NOISE, margin=0.01).outcome is Outcome.DISCARDED
    worse = decide(BASELINE, [1.92], 0.05, NOISE, margin=0.01)
    assert worse.reason == "not below +0.0100"
    assert decide([1.9], [1.905], 0.05, margin=0.01).outcome is Outcome.KEPT


def density(x: float, df: int) -> float:
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - (df + 1) / 2 * math.log1p(x * x / df)
    return math.exp(log) / math.sqrt(df * math.pi)


@given(t=st.floats(-8, 8), df=st.integers(1, 30))
def test_student_t_is_the_integral_of_its_density(t: float, df: int) -> None:
    x = np.linspace(0, t, 4001)
    y = np.array([density(value, df) for value in x])
    simpson = (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * t / 4000 / 3
    assert student_t_cdf(t, df) == pytest.approx(0.5 + simpson, abs=1e-7)


@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=6), st.floats(1e-8, 1e-3), st.integers(1, 20))
def test_p_value_falls_as_the_gain_grows(differences: list[float], prior: float, df: int) -> None:
    better = [difference - 0.01 for difference in differences]
    assert paired_p_value(better, prior, df) <= paired_p_value(differences, prior, df) + 1e-12  # both may round to 1


@pytest.mark.parametrize("noise", [None, 0.003 * math.sqrt(2)])
def test_no_effect_nights_keep_few(noise: float | None) -> None:
    """Where nothing has an effect, at most alpha of the judgements keep; a lucky first seed alone would keep half."""
    draw = np.random.default_rng(0)
    kept = 0
    for _ in range(2000):
        order = draw.normal(0, 0.005, 3)
        baseline, candidate = (1.9 + order + draw.normal(0, 0.003, (2, 3))).tolist()
        kept += decide(baseline, candidate, 0.05, noise).outcome is Outcome.KEPT
    assert kept <= 0.05 * 2000
    assert kept > 0
