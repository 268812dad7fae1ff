"""A project small enough to train in a test: a bigram model on generated text, a few steps a run."""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from fakes import Canned, FakeExecutor, Night

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
    """A project in a folder: `experiment` adds one, `run` runs pytest on them in this process.

    Its runs do without the sandbox unless a test asks for it, so that they may be forks (see fork_server.py).
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, pytester: Any = None) -> None:
        self.path = path
        self.monkeypatch = monkeypatch
        self.pytester = pytester
        write(self.path / "baseline/cpu/track.toml", TRACK)
        write(self.path / "baseline/cpu/train.py", BASELINE)
        write(self.path / "pytest.ini", "[pytest]\naddopts = --ar-sandbox off\n")
        (self.path / "experiments").mkdir()
        draw = random.Random(0)
        words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "some", "bird", "fly", "by", "slowly"]
        for number in range(60):
            sentences = [" ".join(draw.choices(words, k=8)) + f" {number}.\n" for _ in range(12)]
            write(self.path / f"text/{number}.txt", "".join(sentences))

    def idea(self, name: str, body: str = "", doc: str = "") -> Path:
        """An overlay that a fake executor knows by its name. The numbers are not near each other, so none are twins."""
        number = crc32(name.encode())
        return self.experiment(name, f"WIDTH = {number}e{number % 250}  # {name} #\n{body}", doc)

    def experiment(self, name: str, body: str, doc: str = "") -> Path:
        """An overlay, unless the body defines `train`."""
        head = "" if "def train" in body else "from baseline import *\n\n"
        return write(self.path / f"experiments/{name}.py", f'"""{doc or name}."""\n{head}{body}\n')

    def track(self, old: str, new: str) -> None:
        path = self.path / "baseline/cpu/track.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def fake(self, baseline: "Sequence[Canned]" = (2.0, 2.02), **canned: "Sequence[Canned]") -> FakeExecutor:
        """Have nothing trained from here on: the baseline's results, and those of the experiments by their names."""
        texts = {f"# {name} #": results for name, results in canned.items()}
        executor = FakeExecutor(self.path, baseline, texts)
        self.monkeypatch.setattr("pytest_autoresearch.referee.local.LocalExecutor", lambda root: executor)
        return executor

    def night(self, executor: FakeExecutor, **options: Any) -> Night:
        """A session on all experiments, without pytest."""
        return Night(self.path, executor, **options)

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


LOOP = """
def train(run):
    model = torch.nn.Sequential(torch.nn.Embedding(run.vocab_size, run.vocab_size))
    for step, (tokens, targets) in enumerate(run.batches(4)):
        loss = model(tokens).logsumexp(-1).mean()
        {inside}
        run.log(loss)
    return {result}
"""


def program(inside: str = "pass", result: str = "model", top: str = "") -> str:
    return f"import os, subprocess, sys, time\nimport torch\n{top}\n" + LOOP.format(inside=inside, result=result)


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that work for this project."""
    time.sleep(0.2)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, cwd = (process / "cmdline").read_bytes(), os.readlink(process / "cwd")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        works_here = str(folder).encode() in line or Path(cwd).is_relative_to(folder / "results")
        if works_here and state != "Z":
            found.append(line.decode())
    return found
