"""The baseline and the experiments that come with the repository: they read, splice, train and keep the rules."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from direct_run import direct_run

from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.programs.compare import same_program
from pytest_autoresearch.programs.constants import constants_of, with_constants
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.search_space import (
    Choices,
    check_keys,
    has_search_space,
    read_search_space,
    without_search_space,
)
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).parents[2]
TRACK = read_track(ROOT / "baseline/cpu")
BASELINE = TRACK.program_path.read_text(encoding="utf-8")
ROWS = np.random.default_rng(0).integers(0, TRACK.vocab_size, (40, TRACK.sequence_length + 1), dtype=np.uint16)
EXPERIMENTS = [
    path
    for path in sorted((ROOT / "experiments").glob("[!_]*.py"))
    if read_experiment(path, path.parent).track in (None, TRACK.name)  # the others: test_cuda_track.py
    if not has_search_space(path.read_text(encoding="utf-8"))
]
SWEEPS = {"cpu": "rate_and_batch", "cuda": "windows_and_rates"}


def train(source: str, steps: int = 3) -> Any:
    """What `train` returns after a few steps on random tokens at the track's own sizes."""
    run = direct_run(ROWS, f"{steps} steps", vocab_size=TRACK.vocab_size)
    torch.manual_seed(0)
    program = types.ModuleType("program")
    exec(compile(source, "program.py", "exec"), program.__dict__)
    return program.train(run)


def check(model: Any) -> None:
    """Logits have the right shape, are finite, and depend on nothing that comes later."""
    tokens = torch.randint(TRACK.vocab_size, (2, TRACK.sequence_length))
    changed = tokens.clone()
    changed[:, 50:] = (changed[:, 50:] + 1) % TRACK.vocab_size
    with torch.no_grad():
        logits, after = model(tokens), model(changed)
    assert logits.shape == (2, TRACK.sequence_length, TRACK.vocab_size)
    assert logits.isfinite().all()
    assert torch.allclose(logits[:, :50], after[:, :50], atol=1e-5)
    assert not torch.allclose(logits[:, 50:], after[:, 50:], atol=1e-5)


def test_the_baseline_trains() -> None:
    check(train(BASELINE))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_trains_on_this_baseline(path: Path) -> None:
    experiment = read_experiment(path, path.parent)
    assert experiment.is_overlay
    assert experiment.description != experiment.name
    source = experiment.program(BASELINE, TRACK.program_path).source
    if same_program(source, BASELINE):
        pytest.skip("has been promoted")
    check(train(source))


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_fits_the_baseline_of_its_track(name: str) -> None:
    track, path = read_track(ROOT / "baseline" / name), ROOT / f"experiments/{SWEEPS[name]}.py"
    baseline, source = track.program_path.read_text(encoding="utf-8"), path.read_text(encoding="utf-8")
    space, constants = read_search_space(path, source), constants_of(baseline)
    check_keys(space, {"SEQUENCE_LENGTH": track.sequence_length, **constants}, path, track.program_path)
    assert read_experiment(path, path.parent).track == name
    own = {key: constants[key] for key in space.keys}
    assert space.contains(own)
    assert not space.violations(own, {"SEQUENCE_LENGTH": track.sequence_length, **constants})


def test_the_ends_of_a_sweep_train() -> None:
    """Its lowest and its highest values, whatever its constraints say of them."""
    path = ROOT / f"experiments/{SWEEPS['cpu']}.py"
    source = path.read_text(encoding="utf-8")
    for end in (0, -1):
        values = {
            key: allowed.values[end] if isinstance(allowed, Choices) else (allowed.low, allowed.high)[end]
            for key, allowed in read_search_space(path, source).keys.items()
        }
        check(train(splice(BASELINE, with_constants(without_search_space(source), values))))


def test_there_are_ten_ideas_and_most_are_short() -> None:
    assert len(EXPERIMENTS) >= 10
    lines = [len([line for line in path.read_text().splitlines() if line.strip()]) for path in EXPERIMENTS]
    assert sorted(lines)[len(lines) // 2] < 15


def test_ideas_stack_on_one_another() -> None:
    """Overlays on a baseline that has taken other ideas in still make a program that trains."""
    source = BASELINE
    for path in EXPERIMENTS:
        if path.stem in {"rmsnorm", "rope", "relu_squared", "warmdown", "half_batch"}:
            source = splice(source, path.read_text())
    check(train(source))


def test_learning_happens() -> None:
    """Thirty steps learn more of the forty rows by heart than one does, so the training loop is wired up."""
    model, untrained = train(BASELINE, steps=30), train(BASELINE, steps=1)
    tokens = torch.from_numpy(ROWS.astype(np.int64))

    def loss(model: Any) -> float:
        with torch.no_grad():
            return float(
                torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            )

    assert loss(model) < loss(untrained) - 0.1
