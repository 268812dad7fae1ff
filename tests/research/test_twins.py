"""An experiment that changes nearly what another changed says so, before and beside its verdict."""

import shutil

import pytest
from tiny_project import TinyProject

BAD = [2.3]
NORM = "def make_model(vocab_size):\n    {0} = nn.Embedding(vocab_size, WIDTH)\n    return nn.Sequential({0}, head())  # {1} #\n"


@pytest.fixture
def judged(project: TinyProject) -> TinyProject:
    """A project in which `first` has been judged; `second` is its twin, `third` is not."""
    project.experiment("first", NORM.format("table", "first"))
    executor = project.fake(first=BAD, second=BAD, third=BAD)
    project.night(executor)
    executor.specs.clear()
    project.experiment("second", NORM.format("rows", "second"))
    project.experiment("third", "def make_model(vocab_size):\n    return nn.Linear(1, 2)  # third #")
    return project


def test_a_twin_is_named_before_and_beside_the_verdict(judged: TinyProject) -> None:
    result = judged.run("-v")
    said = "nearly the same as first (discarded, +0.3000)"
    result.stdout.fnmatch_lines(
        [
            "experiments/first.py::first DISCARDED (replayed) *",
            f"autoresearch: second: {said}",
            f"experiments/second.py::second DISCARDED * note: {said}*",
        ]
    )
    assert result.stdout.str().count("nearly the same as") == 4  # and under FAILURES, and in the short summary
    again = judged.run("-v")
    assert "nearly the same as" not in again.stdout.str()


def test_of_two_new_twins_the_second_says_so(project: TinyProject) -> None:
    project.experiment("a", NORM.format("table", "a"))
    project.experiment("b", NORM.format("rows", "b"))
    project.fake(a=BAD, b=BAD)
    result = project.run("-v")
    result.stdout.fnmatch_lines(["autoresearch: b: nearly the same as a (discarded, +0.3000)"])


def test_an_experiment_is_no_twin_of_itself(judged: TinyProject) -> None:
    (judged.path / "experiments/second.py").unlink()
    judged.experiment("first", NORM.format("rows", "first"), doc="Changed")
    assert "nearly the same" not in judged.run("-v", "--ar-rerun").stdout.str()


def test_after_a_promotion_the_twin_met_an_earlier_baseline(judged: TinyProject) -> None:
    judged.idea("good")
    judged.experiment("third", "LEARNING_RATE = 2e-3  # third #")
    executor = judged.fake(first=BAD, second=BAD, third=BAD, good=[1.9, 1.92])
    judged.run("-k", "good")
    assert "# good #" in (judged.path / "baseline/cpu/train.py").read_text()
    executor.canned = {"# second #": [2.3]}
    executor.baseline = (1.9, 1.92)
    result = judged.run("-k", "second")
    result.stdout.fnmatch_lines(["autoresearch: second: nearly the same as first (*, against an earlier baseline)"])


def test_what_is_gone_is_no_twin(judged: TinyProject) -> None:
    for path in judged.path.glob("results/cpu/first-*"):
        shutil.rmtree(path)
    (judged.path / "experiments/first.py").unlink()
    assert "nearly the same" not in judged.run("-v").stdout.str()
