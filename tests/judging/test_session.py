"""The main job on a small project: record, judge, log, promote, replay."""

import io
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pandas
import pytest
from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.cli import main as autoresearch

pytestmark = pytest.mark.usefixtures("recorded")


Outcomes = Callable[[pytest.RunResult], dict[str, str]]

FASTER = "LEARNING_RATE = LEARNING_RATE * 10"
FASTEST = "LEARNING_RATE = 0.05"
SLOWER = "LEARNING_RATE = LEARNING_RATE / 10"
NARROWER = "WIDTH = 15"


def test_a_night_of_two_sessions(
    project: TinyProject, outcomes: Outcomes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of the first session is promoted; what it outran stacks on it in the second, or does not."""
    (project.path / "baseline/cpu/baseline.json").unlink()
    project.experiment("faster", FASTER)
    project.experiment("fastest", FASTEST, "A high rate\tfrom the start")
    project.experiment("slower", SLOWER)
    monkeypatch.chdir(project.path)
    autoresearch(["show", "fastest"])
    shown = capsys.readouterr().out

    first = project.run()
    first.assert_outcomes(passed=2, failed=1)
    said = outcomes(first)
    assert re.match(r"KEPT \d\.\d{4} \(-\d\.\d{4}, p [\d.e-]+\)", said["fastest"])
    assert re.match(r"DISCARDED \d\.\d{4} \(\+\d\.\d{4}, p 0\.\d+\) not below the baseline", said["slower"])
    first.stdout.fnmatch_lines(
        [
            "*no record for this platform: baseline/cpu/train.py is recorded first*",
            "*baseline recorded: *val_bpb*",
            "promoted fastest: *",
        ]
    )
    assert (project.path / "baseline/cpu/train.py").read_text() == shown
    record = next(iter(json.loads((project.path / "baseline/cpu/baseline.json").read_text())["records"].values()))
    rows = {row["experiment"]: row for row in project.rows}
    assert [row["status"] for row in project.rows] == ["keep", "discard", "pass", "keep"]
    assert project.rows[0]["experiment"] == "baseline"
    assert rows["fastest"]["description"] == "A high rate from the start."
    assert sum(record["scores"]) / 2 == pytest.approx(float(rows["fastest"]["val_bpb"]), abs=1e-6)
    assert rows["slower"]["runs"] == "1"
    evidence = project.path / f"results/cpu/fastest-{rows['fastest']['program_sha'][:7]}"
    assert {path.name for path in (evidence / "seed-1").iterdir()} >= {"program.py", "log.txt", "result.json"}

    project.experiment("narrower", NARROWER)
    second = project.run()
    said = outcomes(second)
    assert said["faster"].startswith(("KEPT", "DISCARDED"))  # outrun, so it is tried on the new baseline by itself
    assert said["fastest"].startswith("UNCHANGED: the program equals the baseline")
    assert said["slower"].startswith("SKIPPED: discarded against an earlier baseline")
    second.stdout.fnmatch_lines(["*autoresearch: baseline *val_bpb*"])
    assert "baseline recorded" not in second.stdout.str()


def test_a_second_promotion_stacks_on_the_first(project: TinyProject) -> None:
    project.experiment("faster", FASTER)
    project.run().assert_outcomes(passed=1)
    project.experiment("wider", "WIDTH = WIDTH * 4")
    project.run().assert_outcomes(passed=1, skipped=1)
    program = (project.path / "baseline/cpu/train.py").read_text()
    assert "LEARNING_RATE = LEARNING_RATE * 10" in program
    assert "WIDTH = WIDTH * 4" in program
    kept = [float(row["val_bpb"]) for row in project.rows if row["status"] == "keep"]
    assert len(kept) == 3
    assert kept == sorted(kept, reverse=True)


def test_recorded_verdicts_are_replayed_and_nothing_trains(project: TinyProject, outcomes: Outcomes) -> None:
    project.experiment("faster", FASTER)
    project.experiment("slower", SLOWER)
    first = project.run("--ar-no-promote")
    assert "nothing promoted: --ar-no-promote" in first.stdout.str()
    trained, rows = project.seeds_trained(), project.rows
    again = project.run("--ar-no-promote")
    assert again.ret == first.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(again)["faster"].startswith("KEPT (recorded) ")
    assert outcomes(again)["slower"].startswith("DISCARDED (recorded) ")
    assert project.seeds_trained() == trained
    assert project.rows == rows
    assert (project.path / "baseline/cpu/train.py").read_text() == BASELINE

    promoting = project.run()  # what was kept earlier is promoted without training again
    assert "promoted faster" in promoting.stdout.str()
    assert project.seeds_trained() == trained
    assert [row["status"] for row in project.rows] == ["keep", "discard", "pass", "keep"]


def test_the_same_seed_twice_gives_the_same_score(project: TinyProject) -> None:
    project.experiment("slower", SLOWER)
    project.run()
    project.run("--ar-rerun")
    first, second = (float(row["val_bpb"]) for row in project.rows if row["experiment"] == "slower")
    assert first == pytest.approx(second, abs=3e-3)


def test_another_setting_than_the_tracks_promotes_nothing(project: TinyProject) -> None:
    project.experiment("faster", FASTER)
    result = project.run("--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    assert "nothing promoted: --ar-seeds is below the track's 2" in result.stdout.str()
    result = project.run("--ar-budget", "4 steps", "--ar-seeds", "1")
    assert "nothing promoted: --ar-budget is not the track's 12 steps" in result.stdout.str()
    assert (project.path / "baseline/cpu/train.py").read_text() == BASELINE
    assert project.run().parseoutcomes() == {"passed": 1}  # a full judgement, its second baseline seed recorded now
    assert "LEARNING_RATE * 10" in (project.path / "baseline/cpu/train.py").read_text()


def test_a_changed_setting_judges_anew_and_another_one_comes_back(project: TinyProject, outcomes: Outcomes) -> None:
    """What was judged on this very baseline under one setting is not "judged against an earlier one" under another."""
    project.experiment("slower", SLOWER)
    assert outcomes(project.run("--ar-seeds", "1"))["slower"].startswith("DISCARDED ")
    trial = project.run("--ar-seeds", "1", "--ar-budget", "4 steps")
    assert outcomes(trial)["slower"].startswith("DISCARDED ")
    assert "(recorded)" not in outcomes(trial)["slower"]
    again = project.run("--ar-seeds", "1")
    assert outcomes(again)["slower"].startswith("DISCARDED (recorded)")
    assert [row["track"] for row in project.rows] == ["cpu", "cpu", "cpu@4steps", "cpu@4steps"]
    assert {row["experiment"] for row in project.rows if row["status"] == "keep"} == {"baseline"}
    project.track('limit = "60 s"', 'limit = "70 s"')  # a verdict may hang on it, when it was "timed out"
    assert "(recorded)" not in outcomes(project.run("--ar-seeds", "1"))["slower"]


def test_the_baseline_is_recorded_anew_when_asked(project: TinyProject) -> None:
    (project.path / "baseline/cpu/baseline.json").unlink()
    project.experiment("slower", SLOWER)
    project.run("--ar-seeds", "1")
    before = {path: when for path, when in project.seeds_trained().items() if "baseline" in path}
    result = project.run("--ar-seeds", "1", "--ar-record")
    assert "baseline recorded" in result.stdout.str()
    after = {path: when for path, when in project.seeds_trained().items() if "baseline" in path}
    assert before.keys() == after.keys()
    assert all(after[path] > before[path] for path in before)


def test_what_was_kept_before_a_session_died_is_promoted_by_the_next(project: TinyProject) -> None:
    project.experiment("faster", FASTER)
    project.pytester.makeconftest("def pytest_autoresearch_verdict(verdict):\n    raise RuntimeError('died')\n")
    project.run("--ar-seeds", "2")
    assert (project.path / "baseline/cpu/train.py").read_text() == BASELINE
    (project.path / "conftest.py").unlink()
    trained = project.seeds_trained()
    assert "promoted faster" in project.run().stdout.str()
    assert project.seeds_trained() == trained


def test_bad_options_are_one_line(project: TinyProject) -> None:
    project.experiment("faster", FASTER)
    for arguments, words in (
        (["--ar-budget", "soon"], '--ar-budget soon: must be a positive number and a unit, as in "5 s"'),
        (["--ar-seeds", "0"], "--ar-seeds 0: must be a whole number of at least 1"),
        (["--ar-track", "tpu"], "baseline: no track 'tpu'; there is: cpu"),
    ):
        result = project.run(*arguments)
        result.assert_outcomes(errors=1)
        assert words in result.stdout.str()


def test_only_for_another_track_and_retest(project: TinyProject, outcomes: Outcomes) -> None:
    project.experiment("elsewhere", 'TRACK = "cuda"\nWIDTH = 99')
    project.experiment("faster", FASTER)
    project.experiment("slower", SLOWER)
    result = project.run()
    assert outcomes(result)["elsewhere"].startswith("SKIPPED: only for track cuda; this is cpu")
    result = project.run("--ar-retest", "-k", "slower")
    assert outcomes(result)["slower"].startswith("DISCARDED ")


def test_a_pandas_reader_of_the_five_columns(project: TinyProject) -> None:
    """What the field's own notebook reads, it reads right here."""
    project.experiment("faster", FASTER, "'A quote' that\tnever \\\"ends")
    project.experiment("slower", SLOWER)
    project.experiment("crashing", "def make_model(vocab_size):\n    raise RuntimeError('no model')")
    project.run()
    text = (project.path / "results.tsv").read_text()
    frame = pandas.read_csv(io.StringIO(text), sep="\t")
    assert list(frame.columns[:5]) == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert frame["status"].value_counts().to_dict() == {"keep": 2, "discard": 1, "crash": 1}
    crash = frame[frame["status"] == "crash"].iloc[0]
    assert (crash["val_bpb"], crash["memory_gb"]) == (0, 0)
    assert frame[frame["status"] == "keep"]["val_bpb"].is_monotonic_decreasing


def test_hooks_of_our_own(project: TinyProject) -> None:
    project.pytester.makeconftest(
        """
        def pytest_autoresearch_verdict(config, verdict):
            print("HOOK", verdict.experiment, verdict.outcome, verdict.recorded)
        def pytest_autoresearch_promoted(config, promotion):
            print("HOOK promoted", promotion.verdict.experiment, promotion.after < promotion.before)
        """
    )
    project.experiment("faster", FASTER)
    result = project.run("-s")
    result.stdout.fnmatch_lines(["*HOOK faster kept False*", "HOOK promoted faster True"])


def test_an_experiment_for_a_track_is_also_for_those_made_of_it(project: TinyProject, outcomes: Outcomes) -> None:
    (project.path / "baseline/cpu").rename(project.path / "baseline/cpu-4gb")
    project.experiment("here", 'TRACK = "cpu"\n' + FASTER)
    project.experiment("elsewhere", 'TRACK = "cp"\n' + FASTER)
    found = outcomes(project.run("--ar-track", "cpu-4gb", "--ar-seeds", "1"))
    assert found["here"].startswith(("KEPT", "DISCARDED"))
    assert found["elsewhere"].startswith("SKIPPED: only for track cp; this is cpu-4gb")


def test_a_corpus_on_the_hub_is_asked_for_once_and_not_for_a_look_at_the_collection(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    project.track('corpus = "text"', 'corpus = "hf:nobody/nothing"')
    project.experiment("one", FASTER)
    project.experiment("two", SLOWER)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert project.run("--co").ret == 0
        assert not asked
        result = project.pytester.runpytest_subprocess("experiments")
        server.shutdown()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["autoresearch: corpus hf:nobody/nothing is not in the cache: it is fetched first"])
    assert result.stdout.str().count("corpus 'hf:nobody/nothing': ") >= 2
    assert len([path for path in asked if "nobody" in path]) == 1  # huggingface_hub has questions of its own


def test_a_track_for_a_device_that_is_not_there(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    project.track('device = "cpu"', 'device = "cuda"')
    project.experiment("one", FASTER)
    result = project.run()
    result.assert_outcomes(errors=1)
    words = 'baseline/cpu/track.toml: device = "cuda": torch * finds none here; choose another track with --ar-track'
    result.stdout.fnmatch_lines([f"autoresearch: {words}", words])
