"""What counts as a gain, by the verdict's own rule, and which constants mattered."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_history import SyntheticHistory, program

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track, read_track
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.judging.verdict import decide, paired_p_value
from pytest_autoresearch.programs.constants import spelled_in
from pytest_autoresearch.research.gain import least_gain
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.importance import explained, importances


@pytest.fixture
def track(tmp_path: Path) -> Track:
    SyntheticHistory(tmp_path, None).write(record=False, experiments=0)  # type: ignore[arg-type]
    return read_track(tmp_path / "baseline/cpu")


def test_a_gain_is_what_the_test_just_keeps(track: Track) -> None:
    gain = least_gain([2.0, 2.1, 2.2], track)
    differences = [gain.delta + luck for luck in (-0.0075, 0.0, 0.0075)]
    assert paired_p_value(differences, 0.0075**2, 8) == pytest.approx(0.05, abs=1e-4)
    assert paired_p_value([gain.first_run], 0.0075**2, 8) == pytest.approx(0.25, abs=1e-4)
    for off, outcome in ((-1e-5, Outcome.KEPT), (1e-5, Outcome.DISCARDED)):
        scores = [score + each + off for score, each in zip((2.0, 2.1, 2.2), differences, strict=True)]
        assert decide([2.0, 2.1, 2.2], scores, track.alpha, track.noise).outcome is outcome


def test_without_a_known_noise_the_baselines_own_spread_counts(track: Track) -> None:
    quiet, loud = (
        least_gain([2.0, 2.0 + step, 2.0 - step], replace(track, noise=None)).delta for step in (0.001, 0.01)
    )
    assert loud == pytest.approx(10 * quiet, rel=1e-3)
    assert loud < quiet < 0


def test_with_one_seed_any_lower_score_is_kept(track: Track) -> None:
    gain = least_gain([2.0], replace(track, seeds=1))
    assert (gain.delta, gain.first_run) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("description", "settings"),
    [
        ("LEARNING_RATE=0.002 BATCH_SIZE=16: Rates.", {"LEARNING_RATE": "0.002", "BATCH_SIZE": "16"}),
        ("LEARNING_RATE=0.002", {"LEARNING_RATE": "0.002"}),
        ("PATTERN='SSSL' A=None: x B=1", {"PATTERN": "'SSSL'", "A": "None"}),
        ("NAME='a:b\\x20c': x", {"NAME": "'a:b\\x20c'"}),
        ("Half the batch: BATCH_SIZE=8", {}),
        ("width=3", {}),
        ("", {}),
    ],
)
def test_the_constants_of_a_trial(description: str, settings: dict[str, str]) -> None:
    assert spelled_in(description) == settings


def test_the_share_that_groups_explain() -> None:
    """By hand: n = 6, k = 2, H = 12/42 · (6²/3 + 15²/3) − 21 = 27/7, so (27/7 − 1) / 4 = 5/7."""
    assert explained([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) == pytest.approx(5 / 7)
    assert explained([[1.0, 6.0], [2.0, 5.0], [3.0, 4.0]]) == 0.0
    assert explained([[1.0, 2.0]]) == explained([[1.0], [2.0]]) == 0.0


def test_one_trial_that_went_wrong_does_not_decide(tmp_path: Path) -> None:
    """The rank of a score counts, not how bad it is. Words are values, too; a constant with one value is left out."""
    history = SyntheticHistory.of(tmp_path, 0)
    for number in range(24):
        spelled = f"RATE={number} NORM='{'ab'[number % 2]}' SAME=1: x"
        delta = 1e6 if number == 11 else 0.01 * (number % 2) + 0.0001 * number
        history.rows.append(history.row(experiment=f"s[{number}]", verdict="tried", description=spelled, delta=delta))
    history.write()
    norm, rate = importances(History.read(Ledger(tmp_path), "cpu").trials)
    assert (norm.name, norm.best, norm.lowest, norm.trials) == ("NORM", "'a'", None, 24)
    assert (rate.name, rate.best, rate.lowest, rate.highest) == ("RATE", "0", 0.0, 23.0)
    assert norm.share > 0.6
    assert rate.share < 0.2


def test_numbers_that_no_verdict_has_break_a_line(tmp_path: Path) -> None:
    history = SyntheticHistory.of(tmp_path, 0)
    history.rows += [history.row(experiment=f"e{delta}", delta=delta) for delta in ("nan", "-inf", "-0.1")]
    history.write()
    assert [entry.experiment for entry in History.read(Ledger(tmp_path), "cpu").verdicts] == ["e-0.1"]


def test_a_synthetic_history_is_the_same_each_time(tmp_path: Path) -> None:
    one, other = (SyntheticHistory.of(tmp_path, 200, seed=3) for _ in range(2))
    assert one.ledger_text == other.ledger_text
    assert one.source == program(one.rows[-1]["experiment"])
    assert len(History.read(Ledger(one.write()), "cpu").verdicts) == 200
