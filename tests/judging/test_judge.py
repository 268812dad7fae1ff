"""What a run may use beyond its budget follows from what the baseline took; and what a run's result means."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import failed, result
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.budget import Budget
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, Record, RunStats
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.judge import within_limits
from pytest_autoresearch.referee.executor import JobSpec

ROOT = Path(__file__).parents[2]


def limited(device: str, budget: Budget, **took: float) -> JobSpec:
    """A job on such a track, against a baseline whose two runs took so much."""
    track = replace(read_track(ROOT / "baseline/cpu"), device=device, budget=budget)
    record = Record("sha", "sha", {}, RunStats.of([result(seed, **took) for seed in (0, 1)]))
    return within_limits(JobSpec("source", 0, track, "key", "evidence"), record)


@pytest.mark.parametrize(("free", "startup"), [(10.0, 25.0), (100.0, 120.0), (0.0, 120.0)])
def test_on_a_gpu_starting_may_take_twice_as_long_as_the_baselines(free: float, startup: float) -> None:
    spec = limited("cuda", Budget(300, "s", 120, 600), free_seconds=free, first_answer=4.0)
    assert spec.track.budget == Budget(300, "s", startup, 600)
    assert spec.first_answer == (13.0 if free else None)


@pytest.mark.parametrize(("device", "unit"), [("cpu", "s"), ("cuda", "steps"), ("cuda", "flop")])
def test_elsewhere_the_startup_is_the_tracks(device: str, unit: str) -> None:
    budget = Budget(300, unit, 120, 600)
    spec = limited(device, budget, free_seconds=10.0, first_answer=4.0)
    assert spec.track.budget == budget
    assert spec.first_answer is None


def test_uncounted_work_may_take_twice_the_baselines_cpu_seconds() -> None:
    assert limited("cpu", Budget(1e9, "flop", 60, 180), cpu_seconds=20.0).cpu_limit == 45
    assert limited("cpu", Budget(1e9, "flop", 60, 180), cpu_seconds=0.0).cpu_limit is None
    assert limited("cpu", Budget(9, "steps", 60, 180), cpu_seconds=20.0).cpu_limit is None


def test_an_experiment_is_compared_row_by_row_with_the_baselines_run(project: TinyProject) -> None:
    project.idea("good")
    executor = project.fake(good=[1.9, 1.9])
    project.night(executor, promote=False)
    folders = sorted(project.path.glob("results/cpu/baseline-*/seed-*"))
    for number, folder in enumerate(folders):
        (folder / "result.json").write_text(json.dumps({"row_nats": [number, 2.0]}))
    project.night(executor, promote=False, rerun=True)
    assert [spec.baseline_nats for spec in executor.specs] == [None] * 4 + [[0, 2], [1, 2]]


def test_the_baseline_itself_has_no_such_limits_and_experiments_have(project: TinyProject) -> None:
    project.track('train = "12 steps"', 'train = "1e9 flop"')
    project.idea("good")
    fake = project.fake([result(0, 2.0, cpu_seconds=3.0), result(1, 2.02, cpu_seconds=5.0)], good=[1.9, 1.92])
    project.night(fake)
    assert [spec.cpu_limit for spec in fake.specs] == [None, None, 13.0, 13.0]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome not in ("kept", "discarded", "tried")])
def test_a_failure_ends_the_judgement_whatever_the_seeds_before(project: TinyProject, outcome: Outcome) -> None:
    project.idea("good")
    night = project.night(project.fake(good=[1.9, failed(outcome, "the reason", detail="a traceback")]))
    verdict = night.verdicts["good"]
    assert (verdict.outcome, verdict.reason, verdict.detail) == (outcome, "the reason", "a traceback")
    assert verdict.scores == [1.9]
    assert verdict.runs == 2
    (row,) = [row for row in project.rows if row["experiment"] == "good"]
    assert (row["status"], row["val_bpb"], row["memory_gb"]) == ("crash", "0.000000", "0.0")


def test_memory_growth_is_measured_and_may_be_bounded(project: TinyProject) -> None:
    project.idea("hungry")
    fake = project.fake(hungry=[result(0, 1.9, memory_gb=0.8), result(1, 1.92, memory_gb=0.8)])
    assert project.night(fake, promote=False).verdicts["hungry"].memory_growth == pytest.approx(0.6)
    project.track("alpha = 0.05", "alpha = 0.05\nmax_memory_growth = 0.5")
    night = project.night(fake, promote=False)
    assert night.lines["hungry"].endswith("takes too much memory: 0.8 GB, the baseline 0.5 GB, 50% more is allowed")
    assert night.verdicts["hungry"].runs == 1
    project.track("max_memory_growth = 0.5", "max_memory_growth = 0.7")
    assert project.night(fake, promote=False).verdicts["hungry"].outcome is Outcome.KEPT


def test_whoever_brings_a_seed_is_disqualified_untrained_and_a_baseline_that_does_is_refused(
    project: TinyProject,
) -> None:
    project.idea("constant", "torch.manual_seed(42)")
    fake = project.fake()
    night = project.night(fake)
    words = "`torch.manual_seed(42)`: random numbers must come from run.seed, and are seeded with it already"
    assert night.lines["constant"] == f"DISQUALIFIED experiments/constant.py:5: {words}"
    assert night.trained == [("baseline", 0), ("baseline", 1)]
    with (project.path / "baseline/cpu/train.py").open("a") as file:
        file.write("\ntorch.manual_seed(42)\n")
    with pytest.raises(UsageError, match=r"^baseline/cpu/train.py:\d+: `torch.manual_seed\(42\)`: random numbers must"):
        project.night(fake, record=True, retest=True)


# -- simpler is a win --

SIMPLER = """
GOAL = "simplify"

def make_model(vocab_size):
    return nn.Embedding(vocab_size, vocab_size)  # {name} #

def train(run):
    for _ in run.batches({size}):
        pass
    return make_model(run.vocab_size)
"""
LONGER = """def make_model(vocab_size):
    size = vocab_size
    return nn.Sequential(nn.Embedding(size, WIDTH), nn.Linear(WIDTH, size))"""


def simplifying(project: TinyProject) -> None:
    project.track("alpha = 0.05", "alpha = 0.05\nnoise = 0.001\nsimplify_margin = 0.01")
    for name in ("simpler", "worse"):
        project.experiment(name, f"from baseline import *\n{SIMPLER.format(name=name, size=len(name))}")


def test_simpler_and_hardly_worse_is_kept(project: TinyProject) -> None:
    simplifying(project)
    project.idea("longer", f'GOAL = "simplify"\n\n\n{LONGER}')
    night = project.night(project.fake(simpler=[2.001, 2.021], worse=[2.05, 2.07]))
    assert night.lines["simpler"].startswith("KEPT 2.0110 against 2.0100 (+0.0010, p ")
    assert night.lines["simpler"].partition(") as ")[2] == (
        "simpler (45 tokens of code, the baseline has 119) and worse by less than 0.01"
    )
    assert night.verdicts["worse"].outcome is Outcome.DISCARDED
    assert night.lines["longer"] == "DISCARDED is no simpler: 122 tokens of code, the baseline has 119"
    assert night.verdicts["longer"].runs == 0
    assert night.summary.promotion
    assert night.summary.promotion.verdict.experiment == "simpler"
    assert "GOAL" not in (project.path / "baseline/cpu/train.py").read_text()


def test_a_gain_goes_before_a_simplification(project: TinyProject) -> None:
    simplifying(project)
    project.idea("faster")
    night = project.night(project.fake(simpler=[1.7, 1.72], worse=[2.3], faster=[1.8, 1.82]))
    assert night.summary.promotion
    assert night.summary.promotion.verdict.experiment == "faster"


def test_a_chain_of_simplifications_loses_one_margin_in_all(project: TinyProject) -> None:
    """Each is worse than the one before by less than the margin, but together they would lose more."""
    simplifying(project)
    (project.path / "experiments/worse.py").unlink()
    shorter = SIMPLER.replace("    for _ in run.batches({size}):\n        pass\n", "")
    fake = project.fake(simpler=[2.006, 2.026])
    first = project.night(fake)
    assert first.summary.promotion
    project.experiment("shorter", f"from baseline import *\n{shorter.format(name='shorter')}")
    fake.canned = {"# shorter #": [2.012, 2.032]}
    second = project.night(fake)
    assert second.verdicts["shorter"].reason == (
        "not below +0.0040; the margin of 0.01 is from the best record so far, 0.0060 below the baseline's"
    )
    assert not second.summary.promotion
    fake.canned = {"# shorter #": [2.008, 2.028]}
    third = project.night(fake, rerun=True)
    assert "and worse by less than 0.004; the margin of 0.01 is from the best" in third.verdicts["shorter"].reason
    assert third.summary.promotion, "8 thousandths worse than the best in all"


def test_a_gain_gives_the_margin_back(project: TinyProject) -> None:
    simplifying(project)
    (project.path / "experiments/worse.py").unlink()
    fake = project.fake(simpler=[2.006, 2.026], faster=[1.8, 1.82])
    assert project.night(fake).summary.promotion
    (project.path / "experiments/simpler.py").unlink()
    project.experiment("faster", "def make_model(vocab_size):\n    return nn.Linear(vocab_size, 3)  # faster #")
    assert project.night(fake).summary.promotion
    project.experiment("less", 'GOAL = "simplify"\n\ndef make_model(vocab_size):\n    return nn.Embedding(3)  # less #')
    fake.canned = {"# less #": [1.801, 1.821]}
    assert project.night(fake).verdicts["less"].reason.endswith("and worse by less than 0.01")


def test_a_program_in_a_string_is_no_simpler(project: TinyProject) -> None:
    """Kept once, as simpler by 147 lines."""
    simplifying(project)
    text = "\\n".join(BASELINE.splitlines()).replace('"', "'")
    write(project.path / "experiments/packed.py", f'GOAL = "simplify"\ntrain = None\nexec("{text}")\n')
    night = project.night(project.fake(simpler=[2.3], worse=[2.3]))
    assert night.lines["packed"] == "DISCARDED is no simpler: `exec` may run or read code that is not counted"
    assert night.verdicts["packed"].runs == 0


def test_a_goal_needs_a_margin(project: TinyProject) -> None:
    simplifying(project)
    project.track("simplify_margin = 0.01\n", "")
    words = r'^experiments/simpler.py: GOAL = "simplify" needs simplify_margin in baseline/cpu/track.toml$'
    with pytest.raises(UsageError, match=words):
        project.night(project.fake())
