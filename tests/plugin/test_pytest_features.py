"""Everything that pytest has keeps working, and where there is no experiment the plugin is not noticed.

Nothing trains here but in the tests that say so: what an experiment scores comes from a fake executor.
"""

import io
import os
import pty
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas
import pytest
from fakes import FakeExecutor, failed
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee.executor import RunProgress

Outcomes = Callable[[pytest.RunResult], dict[str, str]]


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    """One experiment that is kept, one that is discarded and one that crashes, with a recorded baseline."""
    project.idea("faster", doc="Ten times the rate")
    project.idea("slower")
    project.idea("broken")
    executor = project.fake(
        faster=[1.9, 1.92], slower=[2.3], broken=[failed(Outcome.CRASHED, "RuntimeError: no model")]
    )
    project.night(executor, promote=False)
    executor.specs.clear()
    return executor


def run(project: TinyProject, *arguments: str) -> pytest.RunResult:
    return project.run("--ar-no-promote", *arguments)


@pytest.mark.usefixtures("fake")
def test_selecting_and_showing(project: TinyProject, outcomes: Outcomes) -> None:
    result = run(project, "-k", "faster")
    result.assert_outcomes(passed=1, deselected=2)
    assert result.ret == 0

    result = run(project, "-x")
    result.assert_outcomes(failed=1)
    assert set(outcomes(result)) == {"broken"}

    result = run(project, "-q")
    assert "CKD" in result.stdout.str()
    assert "autoresearch:" not in result.stdout.str()

    result = run(project, "-v")
    result.stdout.re_match_lines(
        [r"experiments/faster.py::faster KEPT \(replayed\) 1\.9100 against 2\.0100 \(-0\.1000.*"]
    )

    result = run(project, "-rA")
    result.stdout.fnmatch_lines(
        ["*KEPT experiments/faster.py::faster*", "*DISCARDED experiments/slower.py::slower - (replayed) 2.3*"]
    )

    # a file named on the command line is an experiment too, not a module that pytest's own collector imports
    for name in ("experiments/faster.py", "experiments/faster.py::faster"):
        result = project.pytester.runpytest_inprocess(name, "--ar-no-promote")
        result.assert_outcomes(passed=1)

    result = project.pytester.runpytest_inprocess("experiments", "--lf", "--ar-no-promote")
    result.assert_outcomes(passed=1, failed=2)
    result = project.pytester.runpytest_inprocess("experiments", "--lf", "--ar-no-promote")
    result.assert_outcomes(failed=2)

    result = project.pytester.runpytest_subprocess("experiments", "-p", "no:autoresearch", "-o", "addopts=")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.usefixtures("fake")
def test_markers_are_strict_and_warnings_are_errors(project: TinyProject) -> None:
    result = run(project, "--strict-markers", "-W", "error", "-k", "faster")
    result.assert_outcomes(passed=1, deselected=2)


def test_skips_name_their_experiments(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("elsewhere", 'TRACK = "cuda"')
    project.experiment("same", "WIDTH = 16")
    for arguments in (["-rs"], ["-rs", "-v"]):
        result = run(project, *arguments, "-k", "elsewhere or same")
        result.assert_outcomes(skipped=2, deselected=3)
        result.stdout.fnmatch_lines(
            [
                "experiments/elsewhere.py*SKIPPED*only for track cuda; this is cpu*",
                "experiments/same.py*UNCHANGED*the program equals the baseline*",
                "SKIPPED [[]1] experiments/elsewhere.py: only for track cuda; this is cpu",
                "SKIPPED [[]1] experiments/same.py: the program equals the baseline",
            ]
        )
        assert not [line for line in result.outlines if line.count("only for track cuda") > 1]
    assert fake.specs == []


@pytest.mark.usefixtures("fake")
def test_junitxml_has_the_numbers(project: TinyProject) -> None:
    run(project, "--junitxml=report.xml")
    cases = {case.get("name"): case for case in ElementTree.parse(project.path / "report.xml").iter("testcase")}
    properties = {p.get("name"): p.get("value") for p in cases["faster"].iter("property")}
    assert properties["verdict"] == "kept"
    assert float(properties["val_bpb"] or 0) > 0
    assert float(properties["delta"] or 0) < 0
    assert {p.get("name"): p.get("value") for p in cases["broken"].iter("property")}["verdict"] == "crashed"


HEADER = "autoresearch: track cpu on * 2 seeds, *"


def test_xdist_judges_in_workers_and_logs_and_promotes_once(recorded: TinyProject) -> None:
    """Trained for real, for a fake does not get into a worker."""
    project = recorded
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    project.experiment("fastest", "LEARNING_RATE = 0.05")
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    result = project.pytester.runpytest_subprocess("experiments", "-n", "2")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [HEADER, "autoresearch: baseline * val_bpb, recorded *", "baseline *", "promoted fastest: *"]
    )
    assert result.stdout.str().count("autoresearch: track cpu on") == 1
    result.stdout.re_match_lines_random([rf"experiments/{name}.py::{name} [KD]" for name in ("faster", "slower")])
    assert sorted(row["status"] for row in project.rows) == ["discard", "keep", "keep", "pass"]
    assert project.rows[0]["experiment"] == "baseline"
    assert "LEARNING_RATE = 0.05" in (project.path / "baseline/cpu/train.py").read_text()
    result = project.pytester.runpytest_subprocess("experiments", "-n", "2", "--ar-track", "nope")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("no track 'nope'; there is: cpu") == 1
    assert "INTERNALERROR" not in result.stdout.str()
    result = project.pytester.runpytest_subprocess("experiments", "-n", "1", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_pipe_hears_of_each_run_when_it_begins_and_ends(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("new")
    fake.canned["# new #"] = [1.8, 1.82]
    result = run(project, "-k", "new")
    result.stdout.fnmatch_lines(
        [
            HEADER,
            "autoresearch: nothing will be promoted: --ar-no-promote",
            "experiments/new.py*",
            "autoresearch: new run 1/2 …",
            "autoresearch: new run 1/2: 1.8000, 1 s",
            "autoresearch: new run 2/2 …",
            "autoresearch: new run 2/2: 1.8200, 1 s",
            "experiments/new.py KEPT 1.8100 against 2.0100 (-0.2000, p *",
        ]
    )
    result = run(project, "-k", "new or slower", "--ar-rerun")
    shown = [line for line in result.outlines if line.startswith("experiments/") and len(line.split()) > 1]
    assert [line.endswith(end) for line, end in zip(shown, ("[ 50%]", "[100%]"), strict=True)] == [True, True]
    quiet = run(project, "-k", "new", "--ar-rerun", "-q").stdout.str()
    assert "run 1/2" not in quiet


@pytest.mark.parametrize("arguments", [["--co"], []])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ar-budget", "soon"], '--ar-budget soon: must be a positive number and a unit, as in "5 s"'),
        (["--ar-seeds", "0"], "--ar-seeds 0: must be a whole number of at least 1"),
        (["--ar-track", "tpu"], "baseline: no track 'tpu'; there is: cpu"),
    ],
)
def test_a_bad_option_is_one_error_before_anything_runs(
    project: TinyProject, fake: FakeExecutor, options: list[str], words: str, arguments: list[str]
) -> None:
    result = run(project, *options, *arguments, "--ar-rerun")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.errlines if line]
    assert error.startswith(f"ERROR: {words}")
    assert (result.stdout.str() + result.stderr.str()).count(words) == 1
    assert fake.specs == []


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("track.toml", "seeds = 0", "baseline/cpu/track.toml: unknown key seeds; allowed: description, device"),
        ("track.toml", "[[[", "baseline/cpu/track.toml: cannot be read as TOML"),
        ("track.toml", None, 'baseline/cpu/track.toml: device = "cuda": torch'),
        ("train.py", "def train(:", "baseline/cpu/train.py:1: invalid syntax"),
        ("train.py", BASELINE.replace("WIDTH = 16", "WIDTH = 9"), "baseline/cpu/train.py: changed in `WIDTH` since"),
        ("baseline.json", "[]", "baseline/cpu/baseline.json: not a baseline record"),
        ("baseline.json", "{", "restore it, or delete it and the baseline is recorded anew"),
    ],
)
def test_a_broken_baseline_is_one_error_before_anything_runs(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch, file: str, content: str | None, line: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if content is None:
        project.track('device = "cpu"', 'device = "cuda"')
    else:
        write(project.path / "baseline/cpu" / file, content)
    result = run(project, "--ar-rerun")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (result.stdout.str() + result.stderr.str()).count(line) == 1
    assert "INTERNALERROR" not in result.stdout.str()
    assert fake.specs == []


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("zz_last")
    fake.canned["# zz_last #"] = [KeyboardInterrupt()]
    result = project.pytester.runpytest_inprocess("experiments", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "nothing promoted: interrupted",
            "interrupted: 3 verdicts are in the ledger; the same command continues with the rest",
        ]
    )
    fake.canned["# zz_last #"] = [2.3]
    result = project.run()
    result.stdout.fnmatch_lines(["promoted faster: *"])
    assert [Path(spec.evidence).parent.name[:7] for spec in fake.specs] == ["zz_last", "zz_last"]


def test_a_file_in_the_way_of_the_results_is_one_line(project: TinyProject) -> None:
    project.fake()
    project.idea("new")
    write(project.path / "results", "a file where the folder should be")
    result = project.run()
    assert "INTERNALERROR" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*results*: Not a directory"])


def test_without_the_watchdog_nothing_runs(project: TinyProject, fake: FakeExecutor) -> None:
    result = run(project, "-p", "no:timeout", "--strict-markers", "--ar-rerun")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: pytest-timeout is the watchdog of every run and is disabled here" in result.stderr.str()
    assert fake.specs == []


def test_pytest_timeout_ends_a_run_that_the_referee_does_not(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its timer begins with the first progress, for until then a run may wait for the device."""

    def hangs(spec, on_progress):  # type: ignore[no-untyped-def]
        time.sleep(1)
        on_progress(RunProgress("starting"))
        time.sleep(60)

    monkeypatch.setattr(fake, "run", hangs)
    monkeypatch.setattr("pytest_autoresearch.judging.judge.GRACE", -59.5)
    result = run(project, "-k", "slower", "--ar-rerun")
    result.stdout.fnmatch_lines(["*slower.py TIMED OUT pytest-timeout ended the run after 0.5 s*"])


def test_a_live_line_shows_a_run_and_is_gone_afterwards(recorded: TinyProject) -> None:
    """In a real terminal, with a real run."""
    recorded.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    command = [sys.executable, "-m", "pytest", "experiments", "--ar-seeds", "1", "-p", "no:cacheprovider"]
    outside, inside = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(command, cwd=recorded.path, stdout=inside, stderr=inside, stdin=inside, env=environment)
    os.close(inside)
    said = b""
    with suppress(OSError):  # the terminal's end
        while data := os.read(outside, 1 << 16):
            said += data
    os.close(outside)
    process.wait()
    text = said.decode()
    live = text.split("experiments/slower.py ")[1].partition("DISCARDED")[0]
    assert "slower run 1/1" in live
    assert "%" in live
    assert live.endswith("\x1b8\x1b[K") or live.endswith("\x1b[31m")
    assert "run 1/1:" not in text


def test_a_pandas_reader_of_the_five_columns(project: TinyProject) -> None:
    """What the field's own notebook reads, it reads right here."""
    project.idea("faster", doc="'A quote' that\tnever \\\"ends")
    project.idea("slower")
    project.idea("crashing")
    project.night(project.fake(faster=[1.9, 1.92], slower=[2.3], crashing=[failed(Outcome.CRASHED, "no model")]))
    text = (project.path / "results.tsv").read_text()
    frame = pandas.read_csv(io.StringIO(text), sep="\t")
    assert list(frame.columns[:5]) == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert frame["status"].value_counts().to_dict() == {"keep": 2, "discard": 1, "crash": 1}
    crash = frame[frame["status"] == "crash"].iloc[0]
    assert (crash["val_bpb"], crash["memory_gb"]) == (0, 0)
    assert frame[frame["status"] == "keep"]["val_bpb"].is_monotonic_decreasing


def test_hooks_of_our_own(project: TinyProject, fake: FakeExecutor) -> None:
    project.pytester.makeconftest(
        """
        def pytest_autoresearch_verdict(config, verdict):
            print("HOOK", verdict.experiment, verdict.outcome, verdict.replayed)
        def pytest_autoresearch_promoted(config, promotion):
            print("HOOK promoted", promotion.verdict.experiment, promotion.after < promotion.before)
        """
    )
    result = project.run("-s", "-k", "faster")
    result.stdout.fnmatch_lines(["*HOOK faster kept True*", "HOOK promoted faster True"])


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


def test_a_replayed_verdict_imports_no_torch(project: TinyProject, fake: FakeExecutor) -> None:
    said = imports(project, "experiments", "--ar-no-promote", "--ar-sandbox", "off")
    assert "KEPT (replayed)" in said
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


@pytest.mark.parametrize("folder", [None, "foreign/baseline/notes.md", "foreign/baseline/cpu/train.py"])
def test_a_foreign_folder_of_that_name_keeps_its_tests(project: TinyProject, folder: str | None) -> None:
    foreign = project.path / "foreign"
    write(foreign / "pytest.ini", "[pytest]\n")
    write(foreign / "experiments/test_it.py", "def test_it():\n    pass\n")
    write(foreign / "experiments/plot.py", "raise RuntimeError('not to be imported')\n")
    if folder:
        write(project.path / folder, "")
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
    write(project.path / "ideas/faster.py", "from baseline import *\nWIDTH = 6  # faster #\n")
    project.fake(faster=[1.9, 1.92])
    result = project.pytester.runpytest_inprocess("ideas")
    result.assert_outcomes(passed=1)
    assert (project.path / "tracks/cpu/baseline.json").exists()


def test_a_project_without_any_settings_of_pytest(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of the experiments pytest takes that folder for its root."""
    (project.path / "pytest.ini").unlink()
    monkeypatch.chdir(project.path / "experiments")
    result = project.pytester.runpytest_inprocess("-k", "faster", "--ar-no-promote")
    assert f"rootdir: {project.path / 'experiments'}" in result.outlines
    result.assert_outcomes(passed=1, deselected=2)
    assert fake.specs == []
    assert not (project.path / "experiments/results.tsv").exists()


def test_a_line_leaves_room_for_the_progress_of_pytest(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that reaches the edge would have pytest print its percentage twice."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("x" * 5, "x" * 20, "x" * 30):
        project.experiment(name, 'TRACK = "somewhere_else_entirely"')
    lines = run(project).outlines
    shown = [line for line in lines if "%]" in line]
    assert len(shown) == 6
    assert all(line.startswith("experiments/") and len(line) < 80 for line in shown)
    assert fake.specs == []
