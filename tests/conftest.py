"""Fixtures of all tests: a tiny project, alone or with a recorded baseline."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy  # noqa: F401  these are here because pytester forgets what a run imported, and they must not load twice
import pyarrow  # noqa: F401
import pytest
import rustbpe  # noqa: F401
import tiktoken  # noqa: F401
import torch  # noqa: F401
from filelock import FileLock
from fork_server import ForkServer
from tiny_project import TinyProject

from pytest_autoresearch import cli  # noqa: F401
from pytest_autoresearch.plugin import hookspecs, session, terminal  # noqa: F401
from pytest_autoresearch.referee import local, model_client, process, scoring  # noqa: F401


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session that all workers of xdist see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cache(shared_folder: Path) -> Path:
    """The cache of prepared text."""
    return shared_folder / "cache"


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """One process that has imported torch."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _forked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates outside the sandbox are forks, but in tests that are marked `real_process`."""
    if hasattr(os, "fork") and not request.node.get_closest_marker("real_process"):
        lazy = SimpleNamespace(
            Popen=lambda *command, **options: request.getfixturevalue("fork_server").Popen(*command, **options),
            **{name: getattr(subprocess, name) for name in ("PIPE", "STDOUT", "DEVNULL", "TimeoutExpired")},
        )
        monkeypatch.setattr(process, "subprocess", lazy)


@pytest.fixture
def project(pytester: pytest.Pytester, cache: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A tiny project without a recorded baseline."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    return TinyProject(pytester.path, monkeypatch, pytester)


@pytest.fixture
def recorded(project: TinyProject, shared_folder: Path) -> TinyProject:
    """The project with its baseline recorded for real, once for all tests and workers."""
    record = shared_folder / "baseline.json"
    with FileLock(shared_folder / "baseline.lock"):
        if not record.exists():
            project.experiment("untrained", "torch.manual_seed(0)")  # ruled out, but only once there is a baseline
            project.run("-p", "no:xdist")
            (project.path / "baseline/cpu/baseline.json").rename(record)
            shutil.rmtree(project.path / "results")
            for name in ("results.tsv", "experiments/untrained.py"):
                (project.path / name).unlink()
    shutil.copy(record, project.path / "baseline/cpu/baseline.json")
    return project


@pytest.fixture
def outcomes() -> Callable[[pytest.RunResult], dict[str, str]]:
    """experiment → the word that pytest printed for it, from its one line."""

    def read(result: pytest.RunResult) -> dict[str, str]:
        lines = [line for line in result.outlines if line.startswith("experiments/")]
        return {
            line.split()[0].removeprefix("experiments/").split(".py")[0]: " ".join(line.split()[1:]) for line in lines
        }

    return read
