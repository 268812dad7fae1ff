"""Fixtures of all tests: a tiny project, alone or with a recorded baseline."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy  # noqa: F401  these are here because pytester forgets what a run imported, and they must not load twice
import pyarrow  # noqa: F401
import pytest
import rustbpe  # noqa: F401
import tiktoken  # noqa: F401
import torch  # noqa: F401
from tiny_project import TinyProject


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(pytester: pytest.Pytester, cache: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    return TinyProject(pytester.path, monkeypatch, pytester)


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that wants a record leaves it for the others."""
    return tmp_path_factory.mktemp("record") / "baseline.json"


@pytest.fixture
def recorded(project: TinyProject, record: Path) -> TinyProject:
    """The project with its baseline recorded: two runs less where they are not what a test is about."""
    if not record.exists():
        project.experiment("untrained", "torch.manual_seed(0)")  # ruled out, but only once there is a baseline
        project.run("-p", "no:xdist")
        shutil.copy(project.path / "baseline/cpu/baseline.json", record)
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
