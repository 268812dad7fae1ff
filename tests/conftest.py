"""A project small enough to train in a test: a bigram model on generated text, a few steps a run."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy  # noqa: F401  these are here because pytester forgets what a run imported, and they must not load twice
import pyarrow  # noqa: F401
import pytest
import rustbpe  # noqa: F401
import tiktoken  # noqa: F401
import torch  # noqa: F401

TRACK = """
description = "a bigram model on made-up sentences"
device = "cpu"
[data]
corpus = "text"
vocab_size = 300
sequence_length = 16
eval_tokens = 512
[budget]
train = "12 steps"
startup = "60 s"
limit = "60 s"
[evaluation]
batch_size = 16
[verdict]
seeds = 2
alpha = 0.05
"""

BASELINE = '''"""A bigram model."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 16
BATCH_SIZE = 8  # sequences
LEARNING_RATE = 1e-3


def make_model(vocab_size):
    return nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))


def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        with torch.no_grad():
            for weights in model.parameters():
                weights -= LEARNING_RATE * weights.grad.sign()
                weights.grad = None
        run.log(loss)
    return model
'''
"""Without one of torch's optimizers, whose import takes longer than all the rest of a run."""


class TinyProject:
    """A project in a folder: `experiment` adds one, `run` runs pytest on them in this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        write(self.path / "baseline/cpu/track.toml", TRACK)
        write(self.path / "baseline/cpu/train.py", BASELINE)
        write(self.path / "pytest.ini", "[pytest]\n")
        (self.path / "experiments").mkdir()
        draw = random.Random(0)
        words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "some", "bird", "fly", "by", "slowly"]
        for number in range(60):
            sentences = [" ".join(draw.choices(words, k=8)) + f" {number}.\n" for _ in range(12)]
            write(self.path / f"text/{number}.txt", "".join(sentences))

    def experiment(self, name: str, body: str, doc: str = "") -> Path:
        """An overlay, unless the body defines `train`."""
        head = "" if "def train" in body else "from baseline import *\n\n"
        return write(self.path / f"experiments/{name}.py", f'"""{doc or name}."""\n{head}{body}\n')

    def track(self, old: str, new: str) -> None:
        path = self.path / "baseline/cpu/track.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", "experiments", *arguments)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The ledger's lines."""
        head, *lines = (self.path / "results.tsv").read_text().splitlines()
        return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]

    def seeds_trained(self) -> dict[str, int]:
        """When each run of the evidence folder was written (ns): it changes when something trains."""
        return {str(p.relative_to(self.path)): p.stat().st_mtime_ns for p in self.path.glob("results/**/result.json")}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(pytester: pytest.Pytester, cache: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    return TinyProject(pytester)


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
