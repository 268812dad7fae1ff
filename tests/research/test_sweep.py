"""What a sweep decides: what it tries, in which order, what it replays, and what goes into the finals."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeExecutor
from tiny_project import TinyProject

from pytest_autoresearch.programs.constants import constants_of
from pytest_autoresearch.referee.executor import JobSpec, RunProgress, RunResult

SPACE = """
SEARCH_SPACE = {
    "WIDTH": [8, 16, 32],
    "LEARNING_RATE": log(1e-4, 1e-1),
}
"""


class Landscape(FakeExecutor):
    """Scores a program by its constants: `score(constants)` is a number or a whole result."""

    def __init__(self, root: Path, score: Callable[[dict[str, float]], float | RunResult]) -> None:
        super().__init__(root, [], {})
        self.score = score

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """The score of this seed: seeds differ a little, and in the same way for every program."""
        value = self.score(constants_of(spec.source))
        self.baseline = {spec.seed: value if isinstance(value, RunResult) else value + 0.01 * (spec.seed % 2)}
        return super().run(spec, on_progress)

    @property
    def trained(self) -> list[tuple[str, int]]:
        """(name, seed) of each run."""
        return [(Path(spec.evidence).parent.name.rpartition("-")[0], spec.seed) for spec in self.specs]


def rate_counts(constants: dict[str, float]) -> float:
    """The higher the rate and the wider, the better."""
    return 2.0 - constants["LEARNING_RATE"] - constants["WIDTH"] / 1000


@pytest.fixture
def fake(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> Landscape:
    project.experiment("sweep", SPACE, doc="Rate and width")
    executor = Landscape(project.path, rate_counts)
    monkeypatch.setattr("pytest_autoresearch.referee.local.LocalExecutor", lambda root: executor)
    return executor


def test_a_sweep_tries_judges_and_promotes(project: TinyProject, fake: Landscape) -> None:
    done = project.run("--ar-trials", "6")
    print(done.stdout.str())
    print(fake.trained)
    again = project.run("--ar-trials", "8")
    print(again.stdout.str())
    print((project.path / "results.tsv").read_text())
    print((project.path / "baseline/cpu/train.py").read_text())
    again = project.run("--ar-trials", "8", "--ar-retest", "-v")
    assert done.ret == 0
