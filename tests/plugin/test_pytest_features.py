"""Everything that pytest has keeps working, and where there is no experiment the plugin is not noticed."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest
from tiny_project import TinyProject, write

pytestmark = pytest.mark.usefixtures("recorded")


Outcomes = Callable[[pytest.RunResult], dict[str, str]]


@pytest.fixture
def judged(project: TinyProject) -> TinyProject:
    """Three experiments with recorded verdicts, so that the ways of looking at them cost no training."""
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10", "Ten times the rate")
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    project.experiment("broken", "def make_model(vocab_size):\n    raise RuntimeError('no model')")
    project.run("--ar-no-promote", "--ar-seeds", "1")
    return project


def run(project: TinyProject, *arguments: str) -> pytest.RunResult:
    return project.run("--ar-no-promote", "--ar-seeds", "1", *arguments)


def test_selecting_and_showing(judged: TinyProject, outcomes: Outcomes) -> None:
    result = run(judged, "-k", "faster")
    result.assert_outcomes(passed=1, deselected=2)
    assert result.ret == 0

    result = run(judged, "-x")
    result.assert_outcomes(failed=1)
    assert set(outcomes(result)) == {"broken"}

    result = run(judged, "-q")
    assert "CKD" in result.stdout.str()

    result = run(judged, "-v")
    result.stdout.re_match_lines([r"experiments/faster.py::faster KEPT \(recorded\) \d\.\d{4} \(-\d\.\d{4}\).*"])

    result = run(judged, "-rA")
    result.stdout.fnmatch_lines(["*KEPT experiments/faster.py::faster*", "*DISCARDED experiments/slower.py::slower*"])

    # a file named on the command line is an experiment too, not a module that pytest's own collector imports
    result = judged.pytester.runpytest_inprocess("experiments/faster.py", "--ar-no-promote", "--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    result = judged.pytester.runpytest_inprocess("experiments/faster.py::faster", "--ar-no-promote", "--ar-seeds", "1")
    result.assert_outcomes(passed=1)

    result = judged.pytester.runpytest_inprocess("experiments", "--lf", "--ar-no-promote", "--ar-seeds", "1")
    result.assert_outcomes(passed=1, failed=2)
    result = judged.pytester.runpytest_inprocess("experiments", "--lf", "--ar-no-promote", "--ar-seeds", "1")
    result.assert_outcomes(failed=2)

    result = judged.pytester.runpytest_subprocess("experiments", "-p", "no:autoresearch")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_markers_are_strict_and_warnings_are_errors(judged: TinyProject) -> None:
    result = run(judged, "--strict-markers", "-W", "error", "-k", "faster")
    result.assert_outcomes(passed=1, deselected=2)


def test_junitxml_has_the_numbers(judged: TinyProject) -> None:
    run(judged, "--junitxml=report.xml")
    cases = {case.get("name"): case for case in ElementTree.parse(judged.path / "report.xml").iter("testcase")}
    properties = {p.get("name"): p.get("value") for p in cases["faster"].iter("property")}
    assert properties["verdict"] == "kept"
    assert float(properties["val_bpb"] or 0) > 0
    assert float(properties["delta"] or 0) < 0
    assert {p.get("name"): p.get("value") for p in cases["broken"].iter("property")}["verdict"] == "crashed"


def test_xdist_judges_in_workers_and_logs_and_promotes_once(project: TinyProject) -> None:
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    project.experiment("fastest", "LEARNING_RATE = 0.05")
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    result = project.pytester.runpytest_subprocess("experiments", "-n", "2")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["baseline *", "promoted fastest: *"])
    result.stdout.re_match_lines_random([rf"experiments/{name}.py::{name} [KD]" for name in ("faster", "slower")])
    assert sorted(row["status"] for row in project.rows) == ["discard", "keep", "keep", "pass"]
    assert project.rows[0]["experiment"] == "baseline"
    assert "LEARNING_RATE = 0.05" in (project.path / "baseline/cpu/train.py").read_text()


def imports(project: TinyProject, *arguments: str) -> str:
    """What a pytest run in this project imports, by `-X importtime`, and what it prints."""
    command = [sys.executable, "-X", "importtime", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    result = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert result.returncode in (0, 1, 5)
    return result.stderr + result.stdout


HEAVY = re.compile(r"\|\s+(torch|numpy|pyarrow|tiktoken|rustbpe|tabulate)$", re.MULTILINE)


def test_collecting_imports_no_torch_and_runs_no_experiment(project: TinyProject) -> None:
    project.experiment("tell_tale", "open('it-ran', 'w')\nWIDTH = 3")
    said = imports(project, "experiments", "--co", "-q")
    assert "experiments/tell_tale.py::tell_tale" in said
    assert not HEAVY.search(said)
    assert not (project.path / "it-ran").exists()


def test_a_replayed_verdict_imports_no_torch(judged: TinyProject) -> None:
    said = imports(judged, "experiments", "--ar-no-promote", "--ar-seeds", "1")
    assert "KEPT (recorded)" in said
    assert "torch" not in {match[1] for match in HEAVY.finditer(said)}


def test_in_a_foreign_project_the_plugin_is_inert(project: TinyProject) -> None:
    foreign = project.path / "foreign"
    write(foreign / "test_it.py", "def test_it():\n    pass\n")
    write(foreign / "pytest.ini", "[pytest]\n")
    said = imports(project, "foreign/test_it.py", "--rootdir", "foreign", "-c", "foreign/pytest.ini", "-v")
    assert "1 passed" in said
    assert not HEAVY.search(said)
    assert "autoresearch:" not in said
    assert not (foreign / "results").exists()


def test_a_foreign_folder_of_that_name_keeps_its_tests(project: TinyProject) -> None:
    foreign = project.path / "foreign"
    write(foreign / "pytest.ini", "[pytest]\n")
    write(foreign / "experiments/test_it.py", "def test_it():\n    pass\n")
    write(foreign / "experiments/plot.py", "raise RuntimeError('not to be imported')\n")
    result = project.pytester.runpytest_inprocess("--rootdir", "foreign", "-c", "foreign/pytest.ini", "foreign")
    result.assert_outcomes(passed=1)


def test_what_is_no_experiment_is_left_to_pytest(project: TinyProject, outcomes: Outcomes) -> None:
    for name in ("conftest", "_shared", "__init__"):
        write(project.path / f"experiments/{name}.py", "")
    write(project.path / "experiments/notes.md", "")
    project.experiment("norms/rmsnorm", "WIDTH = 3")
    result = project.pytester.runpytest_inprocess("experiments", "--co", "-q")
    result.stdout.fnmatch_lines(["experiments/norms/rmsnorm.py::norms/rmsnorm", "", "1 test collected*"])


def test_other_folders_by_ini(project: TinyProject) -> None:
    (project.path / "experiments").rename(project.path / "ideas")
    (project.path / "baseline").rename(project.path / "tracks")
    write(
        project.path / "pytest.ini",
        "[pytest]\nautoresearch_experiments = ideas\nautoresearch_baseline = tracks\nautoresearch_track = cpu\n",
    )
    write(project.path / "ideas/faster.py", "from baseline import *\nLEARNING_RATE = 0.05\n")
    result = project.pytester.runpytest_inprocess("ideas", "--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    assert (project.path / "tracks/cpu/baseline.json").exists()
