"""What samplers propose, and how good they are."""

import math
import random
import statistics

import pytest

from pytest_autoresearch.programs.ranges import Choices, Range
from pytest_autoresearch.programs.search_space import SearchSpace
from pytest_autoresearch.research import samplers

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState, create_trial  # noqa: E402

SPACE = SearchSpace(
    {"RATE": Range(1e-4, 1e-1, None, True), "WARMUP": Range(0.0, 0.5), "BATCH": Choices((8, 16, 32, 64))}
)


def objective(values):
    """Bits per byte above the best: a bowl around RATE 0.005 and WARMUP 0.12, with BATCH 16."""
    bowl = 0.3 * math.log10(values["RATE"] / 0.005) ** 2 + 2 * (values["WARMUP"] - 0.12) ** 2
    return bowl + {8: 0.06, 16: 0.0, 32: 0.04, 64: 0.15}[values["BATCH"]]


def trial_of(values, score=None, state=TrialState.COMPLETE, space=SPACE):
    return create_trial(
        state=state,
        value=score,
        params=values,
        distributions=samplers.distributions(space),
        constraints={"memory": 0.0},
    )


def best_of(sampler, seed, trials):
    """The best of so many trials, with the noise of real scores in what the sampler sees."""
    noise, seen, best = random.Random(seed), [], math.inf
    for number in range(trials):
        values = samplers.propose(sampler, SPACE, {}, seen, (), 1000 * seed + number)
        best = min(best, objective(values))
        seen.append(trial_of(values, objective(values) + noise.gauss(0, 0.005)))
    return best


@pytest.mark.parametrize(("sampler", "seeds"), [("tpe", 9), ("gp", 2)])
def test_a_model_beats_chance(sampler, seeds):
    trials = 26 if sampler == "tpe" else 12
    chance = [best_of("random", seed, trials) for seed in range(60)]
    assert statistics.median(best_of(sampler, seed, trials) for seed in range(seeds)) < 0.5 * statistics.median(chance)


def test_equal_studies_give_equal_values_and_others_do_not():
    seen = [trial_of(samplers.draw(SPACE, {}, random.Random(seed)), seed) for seed in range(samplers.STARTUP)]
    for sampler in ("random", "tpe", "gp"):
        first, again, other = (samplers.propose(sampler, SPACE, {}, seen, (), seed) for seed in (1, 1, 2))
        assert first == again != other


def test_floats_are_short_and_inside_the_range():
    narrow = {"BETA": Range(0.99, 0.9999), "RATE": Range(1.23456e-5, 1.5e-5, None, True), "ZERO": Range(-1.0, 1.0)}
    space = SearchSpace(
        {**narrow, "HEADS": Range(2, 64, None, True), "SIZE": Range(1, 3), "STEP": Range(0.0, 0.9, 0.1)}
    )
    draws = random.Random(0)
    points = [samplers.draw(space, {}, draws) for _ in range(400)]
    assert all(space.contains(point) for point in points)
    assert all(len(str(point["BETA"])) <= 6 and len(str(point["STEP"])) == 3 for point in points)
    assert len({point["BETA"] for point in points}) > 50
    assert {point["SIZE"] for point in points} == {1, 2, 3}
    assert len({point["STEP"] for point in points}) == 10
    assert statistics.median(point["HEADS"] for point in points) < 16  # uniform in the logarithm


def test_vary_leaves_the_rest_as_it_is():
    constants = {"RATE": 0.5, "WARMUP": 0.1, "BATCH": 16, "OTHER": 1}  # RATE is outside its range
    space = SearchSpace(SPACE.keys, vary=(1, 2))
    draws = random.Random(0)
    points = [samplers.draw(space, constants, draws) for _ in range(100)]
    differ = [sum(point[name] != constants[name] for name in point) for point in points]
    assert {len(point) for point in points} == {3}
    assert set(differ) == {1, 2}


def test_a_grid_has_every_allowed_combination_once():
    space = SearchSpace(
        {"A": Range(1, 3, 1), "B": Choices(("x", "y")), "C": Range(0.1, 0.3, 0.1)}, ('B == "x" or A < N',)
    )
    points = list(samplers.grid(space, {"N": 2}))
    assert len(points) == 9 + 3
    assert points[2] == {"A": 1, "B": "x", "C": 0.3}
    assert len({str(point) for point in points}) == len(points)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_constraint_that_few_points_meet_is_met(sampler):
    space = SearchSpace(SPACE.keys, ("WARMUP >= 0.49",))
    seen = [
        trial_of(samplers.draw(SPACE, {}, random.Random(seed)) | {"WARMUP": 0.49}, seed)
        for seed in range(samplers.STARTUP)
    ]
    for seed in range(5):
        assert samplers.propose(sampler, space, {}, seen, (), seed)["WARMUP"] >= 0.49


def test_a_constraint_that_nothing_meets_ends_the_space(monkeypatch):
    monkeypatch.setattr(samplers, "DRAWS", 200)
    space = SearchSpace(SPACE.keys, ("WARMUP > 1",))
    seen = [trial_of(samplers.draw(SPACE, {}, random.Random(seed)), seed) for seed in range(samplers.STARTUP)]
    for sampler in ("random", "tpe"):
        assert samplers.propose(sampler, space, {}, seen, (), 0) is None


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_that_repeats_itself_is_overruled(sampler, monkeypatch):
    asked = []

    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            asked.append(name)
            return {"RATE": 0.001, "WARMUP": 0.1, "BATCH": 8}[name]

    monkeypatch.setattr(samplers, "_sampler", lambda name, seed: Stubborn())
    seen = [trial_of(samplers.draw(SPACE, {}, random.Random(seed)), seed) for seed in range(samplers.STARTUP)]
    taken = {"RATE=0.001 WARMUP=0.1 BATCH=8"}
    values = samplers.propose(sampler, SPACE, {}, seen, taken, 0)
    assert values is not None
    assert values["RATE"] != 0.001
    assert len(asked) == 3 * samplers.REJECTIONS[sampler]


def test_a_model_hears_of_rejections_and_of_runs_without_score(monkeypatch):
    studies = []
    make = samplers._sampler
    monkeypatch.setattr(
        optuna, "create_study", lambda made=optuna.create_study, **k: studies.append(made(**k)) or studies[-1]
    )
    monkeypatch.setattr(
        samplers, "_sampler", lambda name, seed: make("tpe", seed)
    )  # quick, also where `gp` is asked for
    space = SearchSpace(SPACE.keys, ("WARMUP > 1",))
    values = samplers.draw(SPACE, {}, random.Random(0))
    seen = [trial_of(values, 2.0), trial_of(values, 3.0), trial_of(values, state=TrialState.PRUNED)]
    for sampler in ("tpe", "gp"):
        next(model := samplers._modelled(sampler, space, {}, seen, 0))
        next(model)
    tpe, gp = (study.trials[2:4] for study in studies)
    assert [trial.state for trial in tpe] == [TrialState.PRUNED] * 2
    assert tpe[1].constraints["WARMUP > 1"] >= 0.5
    assert [(trial.value, trial.constraints) for trial in gp] == [(3.0, {"memory": 0.0})] * 2


def test_a_model_begins_with_a_score():
    """Without one there is nothing to model, however many runs have ended."""
    values = samplers.draw(SPACE, {}, random.Random(0))
    seen = [trial_of(values, state=TrialState.PRUNED)] * 2 * samplers.STARTUP
    for sampler in ("tpe", "gp"):
        assert samplers.propose(sampler, SPACE, {}, seen, (), 7) == samplers.propose("random", SPACE, {}, seen, (), 7)
