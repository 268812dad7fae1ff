"""What a run may use beyond its budget follows from what the baseline took."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_autoresearch.core.budget import Budget
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.baseline import Record
from pytest_autoresearch.judging.judge import Judge
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.referee import local as referee
from pytest_autoresearch.referee.compiled import CompiledCode

ROOT = Path(__file__).parents[2]


def job_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, budget: Budget, **took: float) -> referee.Job:
    """The job that a judge gives the referee, against a baseline that took so much."""
    jobs: list[referee.Job] = []
    monkeypatch.setattr(referee, "run", lambda job, watchdog, spectator: jobs.append(job))
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    track = replace(read_track(ROOT / "baseline/cpu"), device=device, budget=budget)
    watchers: Any = SimpleNamespace(watch=lambda label: nullcontext())
    judge = Judge(track, None, None, Ledger(tmp_path), lambda seconds: nullcontext(), watchers)  # type: ignore[arg-type]
    judge.run("idea", "source", 0, Record("sha", {}, **took))  # type: ignore[arg-type]
    return jobs[0]


@pytest.mark.parametrize(("source", "rehearsed"), [("x = 1", False), ("model = torch.compile(model)", True)])
def test_only_a_program_that_compiles_is_rehearsed_and_its_failure_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, rehearsed: bool
) -> None:
    called: list[str] = []
    monkeypatch.setattr(referee, "run", lambda *arguments: called.append("run"))
    monkeypatch.setattr(referee, "rehearse", lambda *arguments: called.append("rehearse"))
    watchers: Any = SimpleNamespace(watch=lambda label: nullcontext())
    compiled = CompiledCode(tmp_path / "compiled", "sha")
    track = read_track(ROOT / "baseline/cpu")
    nobody: Any = None
    watchdog: Any = nobody
    judge = Judge(track, nobody, None, Ledger(tmp_path), watchdog, watchers, compiled=compiled)
    judge.run("idea", source, 0)
    assert called == ["rehearse", "run"] if rehearsed else ["run"]


@pytest.mark.parametrize(("free", "startup"), [(10.0, 25.0), (100.0, 120.0), (0.0, 120.0)])
def test_on_a_gpu_starting_may_take_twice_as_long_as_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, startup: float
) -> None:
    job = job_of(tmp_path, monkeypatch, "cuda", Budget(300, "s", 120, 600), free_seconds=free, first_answer=4.0)
    assert job.track.budget == Budget(300, "s", startup, 600)
    assert job.first_answer == (13.0 if free else None)


@pytest.mark.parametrize(("device", "unit"), [("cpu", "s"), ("cuda", "steps"), ("cuda", "flop")])
def test_elsewhere_the_startup_is_the_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, unit: str
) -> None:
    budget = Budget(300, unit, 120, 600)
    assert job_of(tmp_path, monkeypatch, device, budget, free_seconds=10.0).track.budget == budget


def test_uncounted_work_may_take_twice_the_baselines_cpu_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job_of(tmp_path, monkeypatch, "cpu", Budget(1e9, "flop", 60, 180), cpu_seconds=20.0).cpu_limit == 45
    assert job_of(tmp_path, monkeypatch, "cpu", Budget(1e9, "flop", 60, 180)).cpu_limit is None
    assert job_of(tmp_path, monkeypatch, "cpu", Budget(9, "steps", 60, 180), cpu_seconds=20.0).cpu_limit is None
