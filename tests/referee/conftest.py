"""Runs by a local executor, without a session around them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.referee.executor import JobSpec, RunProgress, RunResult
from pytest_autoresearch.referee.local import LocalExecutor

Execute = Callable[..., RunResult]


@pytest.fixture
def spec(project: TinyProject) -> JobSpec:
    """The baseline, without a sandbox."""
    track = read_track(project.path / "baseline/cpu")
    settings = {name: getattr(track, name) for name in ("vocab_size", "sequence_length", "eval_tokens")}
    data = prepare(track.corpus, root=project.path, **settings)
    return JobSpec(BASELINE, 0, track, data.key, "results/run", "off")


@pytest.fixture
def evidence(project: TinyProject) -> Path:
    return project.path / "results/run"


@pytest.fixture
def executor(project: TinyProject) -> LocalExecutor:
    return LocalExecutor(project.path)


@pytest.fixture
def execute(executor: LocalExecutor, spec: JobSpec) -> Execute:
    """Run a program, the baseline unless it is another, with fields of the spec replaced."""

    def run(
        source: str = BASELINE, on_progress: Callable[[RunProgress], None] = lambda progress: None, **fields: object
    ) -> RunResult:
        return executor.run(replace(spec, source=source, **fields), on_progress)  # type: ignore[arg-type]

    return run
