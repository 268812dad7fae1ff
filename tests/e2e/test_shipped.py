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
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).parents[2]
TRACK = read_track(ROOT / "baseline/cpu")
BASELINE = TRACK.program_path.read_text(encoding="utf-8")
ROWS = np.random.default_rng(0).integers(0, TRACK.vocab_size, (40, TRACK.sequence_length + 1), dtype=np.uint16)
EXPERIMENTS = [
    path
    for path in sorted((ROOT / "experiments").glob("[!_]*.py"))
    if read_experiment(path, path.parent).track in (None, TRACK.name)  # the others: test_cuda_track.py
]


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
