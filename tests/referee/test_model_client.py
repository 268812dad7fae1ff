"""The model as it is served: what answers may take, and scores by the candidate's own process."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.core.device_memory import Route
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.judging.verdict import Outcome
from pytest_autoresearch.referee import local as referee
from pytest_autoresearch.referee.failures import Failed, remedy
from pytest_autoresearch.referee.model_client import Served


@pytest.fixture
def job(project: TinyProject) -> referee.Job:
    track = read_track(project.path / "baseline/cpu")
    settings = {name: getattr(track, name) for name in ("vocab_size", "sequence_length", "eval_tokens")}
    data = prepare(track.corpus, root=project.path, **settings)
    return referee.Job(track, data, BASELINE, 0, project.path / "run")


def run(job: referee.Job) -> referee.Result:
    return referee.run(job, lambda seconds: nullcontext())


# -- in-process --


def test_scored_by_its_own_process_a_program_gets_the_same_score(job: referee.Job) -> None:
    apart = run(job)
    by_itself = run(replace(job, route=Route.IN_PROCESS))
    assert apart.val_bpb is not None
    assert by_itself.val_bpb == pytest.approx(apart.val_bpb, rel=1e-6)
    assert (apart.isolation, by_itself.isolation) == ("process", "in-process")
    assert json.loads((job.folder / "result.json").read_text())["isolation"] == "in-process"


@pytest.mark.parametrize(
    ("serve", "outcome", "reason"),
    [
        ("lambda t: model(t) + F.one_hot(t.roll(-1, 1), 300)", Outcome.DISQUALIFIED, "tokens that come later"),
        ("lambda t: model(t) * float('nan')", Outcome.DIVERGED, "logits hold NaN"),
        ("lambda t: model(t)[:, 1:]", Outcome.CRASHED, "ValueError: logits are"),
        ("lambda t: __import__('os')._exit(3)", Outcome.CRASHED, "exit code 3"),
    ],
)
def test_what_goes_wrong_there_is_said(job: referee.Job, serve: str, outcome: Outcome, reason: str) -> None:
    source = BASELINE.replace("    return model\n", f"    return {serve}\n")
    result = run(replace(job, source=source, route=Route.IN_PROCESS))
    assert result.failure == outcome
    assert reason in result.reason


@pytest.mark.parametrize("score", ["-1.0", "float('nan')", "'0.5'", "0", "True"])
def test_a_score_that_is_none_is_not_taken(job: referee.Job, score: str) -> None:
    lies = f"""
    say = run._send
    say({{"event": "trained", "flop": 0, "memory": 0}})
    say({{"event": "scored", "val_bpb": {score}, "memory": 0}})
    return model
"""
    source = BASELINE.replace("    return model\n", lies)
    result = run(replace(job, source=source, route=Route.IN_PROCESS))
    assert result.val_bpb is None
    assert result.failure == Outcome.DISQUALIFIED


def test_the_header_and_the_ledger_say_so(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device whose memory cannot be shared; this machine has no such device, but what follows is the same."""
    session = import_module("pytest_autoresearch.judging.session")  # pytester loads modules anew
    monkeypatch.setattr(session.Session, "route", (Route.IN_PROCESS, "the driver shares no memory"))
    project.experiment("faster", "LEARNING_RATE = 2e-3")
    result = project.run("--ar-seeds", "1")
    result.stdout.fnmatch_lines(["autoresearch: isolation: in-process:*: the driver shares no memory"])
    assert [row["isolation"] for row in project.rows] == ["in-process"] * len(project.rows)


def test_otherwise_the_ledger_names_what_is_between(project: TinyProject) -> None:
    project.experiment("faster", "LEARNING_RATE = 2e-3")
    assert "isolation" not in project.run("--ar-sandbox", "off", "--ar-seeds", "1").stdout.str()
    assert {row["isolation"] for row in project.rows} == {"process"}


# -- what answers may take --


def checked(device: str, seconds: list[float], flop: int = 5) -> str:
    """What is said of answers that took so long, and the last of them so many flop, the others 5."""
    track = SimpleNamespace(device=device, budget=SimpleNamespace(unit="s"))
    candidate = SimpleNamespace(look=lambda: SimpleNamespace(cpu=0.0))
    job: Any = SimpleNamespace(track=track)
    served = Served(job, candidate, 0, free_seconds=20.0)  # type: ignore[arg-type]
    served._seconds, served._flops = seconds, [5] * (len(seconds) - 1) + [flop]
    try:
        served._check_answers()
    except Failed as failed:
        return str(failed)
    return ""


def test_an_answer_that_takes_long_is_training() -> None:
    assert checked("cuda", [0.1] * 9) == ""
    assert checked("cuda", [0.1] * 4 + [1.6] + [0.1] * 4).startswith("1.6 seconds for one answer, 0.1 for the usual")
    assert checked("cpu", [0.1] * 4 + [1.6] + [0.1] * 4).startswith("1.6 CPU seconds for one answer")
    assert checked("cpu", [0.1] * 9, flop=8).startswith("8 flop for one answer, 5 for the usual")


def test_the_first_answer_may_compile_for_what_is_left_of_the_startup() -> None:
    assert checked("cuda", [21.0] + [0.1] * 8) == ""
    assert "22.0 seconds for one answer" in checked("cuda", [22.0] + [0.1] * 8)


# -- out of memory --


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("for x in run.batches(DEVICE_BATCH): pass", "lower DEVICE_BATCH or the model"),
        ("for x in run.batches(min(BATCH, 3), LENGTH): pass", "lower BATCH or the model"),
        ("for x in run.batches(batch_size=BATCH): pass", "lower BATCH or the model"),
        ("TOTAL_BATCH_SIZE = 8\nfor x in run.batches(size): pass", "lower TOTAL_BATCH_SIZE or the model"),
        ("for x in run.batches(8): pass", "lower the batch size or the model"),
        ("pass", "lower the batch size or the model"),
    ],
)
def test_what_to_lower_is_named(source: str, words: str) -> None:
    assert remedy(source) == words


def test_out_of_memory_names_the_constant(project: TinyProject) -> None:
    project.experiment("huge", "def make_model(vocab_size):\n    return torch.empty(1 << 50)")
    result = project.run("--ar-seeds", "1")
    result.stdout.fnmatch_lines(["*OUT OF MEMORY*lower BATCH_SIZE or the model*"])


def test_a_scoring_batch_that_has_no_room_names_the_track(job: referee.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> None:
        raise import_module("pytest_autoresearch.referee.model_client").NoRoom

    monkeypatch.setattr(import_module("pytest_autoresearch.referee.model_client"), "DeviceMemory", full)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: None)
    result = run(replace(job, route=Route.DEVICE))
    assert result.failure == Outcome.OUT_OF_MEMORY
    assert f"lower evaluation.batch_size (16) in {job.track.folder / 'track.toml'}" in result.reason


def test_evidence_is_left_where_it_was(job: referee.Job) -> None:
    run(job)
    assert {path.name for path in job.folder.iterdir()} == {"program.py", "log.txt", "result.json"}
    assert os.path.getsize(job.folder / "result.json") < 10_000
