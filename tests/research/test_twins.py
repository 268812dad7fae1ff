"""An experiment that changes nearly what another changed says so, before and beside its verdict."""

import shutil
from dataclasses import replace

import pytest
from fakes import FakeExecutor, Silent
from tiny_project import TinyProject

from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.research.twins import Twins

BAD = [2.3]
NORM = """def make_model(vocab_size):
    {0} = nn.Embedding(vocab_size, WIDTH)
    return nn.Sequential({0}, head())  # {1} #
"""


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


def test_of_two_new_twins_the_second_says_so(project: TinyProject) -> None:
    project.experiment("a", NORM.format("table", "a"))
    project.experiment("b", NORM.format("rows", "b"))
    project.fake(a=BAD, b=BAD)
    result = project.run("-v")
    result.stdout.fnmatch_lines(["autoresearch: b: nearly the same as a (discarded, +0.3000)"])


def note(project: TinyProject, name: str, point: str = "", **options: object) -> str:
    """What a new session says of one experiment, or of a point of it."""
    executor = FakeExecutor(project.path, (1.9, 1.92), {})
    folders = Project(project.path, project.path / "experiments", project.path / "baseline")
    session = Session(folders, Options(**options), executor, Silent())  # type: ignore[arg-type]
    plan = session.plan(project.path / f"experiments/{name}.py")
    return Twins(session.context).note(replace(plan, experiment=replace(plan.experiment, name=name + point)))


def test_an_experiment_is_no_twin_of_itself(judged: TinyProject) -> None:
    assert note(judged, "second") == "nearly the same as first (discarded, +0.3000)"
    assert note(judged, "first", rerun=True) == ""
    judged.experiment("first", NORM.format("rows", "first"))
    assert note(judged, "first") == ""


def test_the_points_of_a_sweep_are_no_twins_of_each_other(judged: TinyProject) -> None:
    ledger = judged.path / "results.tsv"
    text = ledger.read_text()
    ledger.write_text(text.replace("\tfirst\tdiscarded", "\tsecond[finalist-1]\tdiscarded"))
    (folder,) = judged.path.glob("results/cpu/first-*")
    folder.rename(folder.with_name(folder.name.replace("first", "second[finalist-1]")))
    assert note(judged, "second", "[04]") == ""
    judged.experiment("elsewhere", NORM.format("rows", "elsewhere"))
    assert note(judged, "elsewhere") == "nearly the same as second[finalist-1] (discarded, +0.3000)"


def test_after_a_promotion_the_twin_met_an_earlier_baseline(judged: TinyProject) -> None:
    judged.idea("good")
    (judged.path / "experiments/second.py").rename(judged.path / "second.py")
    judged.night(judged.fake(first=BAD, third=BAD, good=[1.9, 1.92]))
    assert "# good #" in (judged.path / "baseline/cpu/train.py").read_text()
    (judged.path / "second.py").rename(judged.path / "experiments/second.py")
    said = "nearly the same as first (discarded, +0.3000, against an earlier baseline)"
    assert note(judged, "second") == said


def test_what_is_gone_or_broken_is_no_twin(judged: TinyProject) -> None:
    (program,) = judged.path.glob("results/cpu/first-*/seed-0/program.py")
    text = program.read_text()
    program.write_text(text + "#")
    assert note(judged, "second") == ""
    program.write_text(text)
    assert note(judged, "second")
    shutil.rmtree(program.parent)
    assert note(judged, "second") == ""
    (judged.path / "results.tsv").unlink()
    (judged.path / "results.tsv").mkdir()  # cannot be read
    assert note(judged, "second") == ""
