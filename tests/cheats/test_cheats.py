"""Every cheat of this folder is run for real, and none of them gets anywhere.

The header of a cheat says what happens to it. `Verdict: gains nothing` is the honest program's score to the last digit.
What nothing catches, and README.md says so, is in `holes/` with `Verdict: kept`: an expected failure here.
"""

import hashlib
import io
import os
import re
import shutil
import socket
import sysconfig
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Silent
from fork_server import forks
from tiny_project import TinyProject, write
from torch import nn

from pytest_autoresearch.judging import judge
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.referee import model_client as served
from pytest_autoresearch.referee import run as referee
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.evidence import Evidence
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.referee.sandbox import check_filter, find_sandbox
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.referee.local import LocalExecutor

FAMILIES = {"targets", "evaluation state", "clock", "data", "harness", "memory across runs", "seeds", "logits", "size"}
NEEDS = {
    *("sandbox", "a filter of system calls", "a second run", "two seeds", "weights", "a limit on memory"),
    *("a margin", "an accomplice", "the standard library"),
}
HONEST_SEEDS = 2
EVIDENCE = {"program.py", "log.txt", "result.json", "saved"}
MARK = "PYTHON_TEST_PROJECT"  # a variable that candidates get
QUICK = ("-p", "no:hypothesispytest", "-p", "no:xdist")  # pytester forgets what a run imported, so import little
BASELINE = '''"""A bigram model."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 16
BATCH_SIZE = 8  # sequences
LEARNING_RATE = 2.0


def make_model(vocab_size):
    return nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))


def learn(model, tokens, targets):
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    loss.backward()
    with torch.no_grad():
        for weights in model.parameters():
            weights -= LEARNING_RATE * weights.grad
            weights.grad = None
    return loss


def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    return model
'''
"""Without one of torch's optimizers, whose import takes longer than all the rest of a run."""
UNJUDGED = '"""Records the baseline."""\nfrom baseline import *\n\ntorch.manual_seed(1)\n'


@dataclass(frozen=True)
class Cheat:
    """One file of this folder and what its header says."""

    path: Path
    text: str

    def __str__(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def verdict(self) -> str:
        return self._says("Verdict").partition(",")[0]

    @property
    def reasons(self) -> list[str]:
        """Parts of the reason, one of which must be there."""
        return re.findall(r'"([^"]*)"', self._says("Verdict"))

    @property
    def family(self) -> str:
        return self._says("Family")

    @property
    def caught_by(self) -> str:
        return self._says("Caught by")

    @property
    def needs(self) -> set[str]:
        return set(self._says("Needs").split(", ")) - {""}

    @property
    def track(self) -> str:
        return "seconds" if 'TRACK = "seconds"' in self.text else "cpu"

    def _says(self, key: str) -> str:
        found = re.search(rf"^{key}: (.*(?:\n    .*)*)", self.text, re.MULTILINE)
        return re.sub(r"\s+", " ", found[1]) if found else ""


CHEATS = [
    Cheat(path, path.read_text()) for path in sorted(Path(__file__).parent.rglob("*.py")) if "test_" not in path.name
]


class StillKept(AssertionError):
    """Nothing catches it yet."""


NEED_THE_SANDBOX = [
    *("reads_held_out_rows_by_path", "reads_the_referees_memory", "asks_a_helper"),
    "rebuilds_the_held_out_text",
]
REPRESENTATIVES = {cheat.family: cheat.path for cheat in reversed(CHEATS) if "sandbox" not in cheat.needs}
"""Of each family one cheat that runs in a new interpreter, as it does for users; the others may run in a fork."""


def case(cheat: Cheat) -> object:
    marks = []
    if cheat.verdict == "kept":
        marks.append(
            pytest.mark.xfail(reason=f"{cheat} is kept: nothing catches it yet", strict=True, raises=StillKept)
        )
    as_for_users = "__main__" in cheat.text or "a limit on memory" in cheat.needs  # a fork shares much memory
    if cheat.path == REPRESENTATIVES[cheat.family] or as_for_users:
        marks.append(pytest.mark.real_process)
    return pytest.param(cheat, id=str(cheat), marks=marks)


# -- a project with a recorded baseline --


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of these tests alone, for some cheats look into it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """What this process computes is too little to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves its project for the others to copy."""
    return tmp_path_factory.mktemp("recorded") / "project"


@pytest.fixture
def project(project: TinyProject, recorded: Path) -> TinyProject:
    """Two tracks, `cpu` with a budget in flop and `seconds`; eight batches of held-out text; a recorded baseline."""
    if not recorded.exists():
        for text in list((project.path / "text").iterdir()):
            write(text.with_stem(f"{text.stem}-again"), " and ".join(text.read_text().splitlines(True)[::-1]) * 6)
        write(project.path / "baseline/cpu/train.py", BASELINE)
        project.track("eval_tokens = 512", "eval_tokens = 8192")
        project.track("batch_size = 16", "batch_size = 64")
        shutil.copytree(project.path / "baseline/cpu", project.path / "baseline/seconds")
        project.track('train = "12 steps"', 'train = "4.5e7 flop"')
        seconds = project.path / "baseline/seconds/track.toml"
        seconds.write_text(
            seconds.read_text().replace('train = "12 steps"', 'train = "0.05 s"').replace("seeds = 2", "seeds = 1")
        )
        write(project.path / "experiments/unjudged.py", UNJUDGED)
        (project.path / "results").mkdir()
        (project.path / "results/.secret").write_bytes(bytes(32))  # each cheat meets the same decoys every time
        for track in ("cpu", "seconds"):
            project.run(*QUICK, "--ar-track", track, "--ar-sandbox", "off")
        shutil.copytree(project.path, recorded)
    shutil.copytree(recorded, project.path, dirs_exist_ok=True)
    return project


@pytest.fixture
def run(project: TinyProject, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Cheat, str], Verdict]:
    """Run one cheat on the tiny project; its verdict, after a look at all that it must not have touched."""
    monkeypatch.setenv(MARK, str(project.path))

    def run(cheat: Cheat, sandbox: str) -> Verdict:
        text, helper = cheat.text.replace('CACHE = ""', f"CACHE = {str(cache)!r}"), nullcontext()
        if "weights" in cheat.needs:
            model = trained_for_long(cache)
            kind = "f2" if "short" in cheat.name else "f8"
            numbers = nn.utils.parameters_to_vector(model.parameters()).detach().numpy().astype(kind)
            text = text.replace('WEIGHTS = ""', f'WEIGHTS = "{b64encode(numbers.tobytes()).decode()}"')
            helper = serving(model)
        judged = cheat.name
        if "an accomplice" in cheat.needs:
            text, judged = with_accomplice(project.path, cheat, text)
        if "a limit on memory" in cheat.needs:
            limited = project.path / f"baseline/{cheat.track}/track.toml"
            write(limited, limited.read_text().replace("alpha = 0.05", "alpha = 0.05\nmax_memory_growth = 0.5"))
        if "a margin" in cheat.needs:
            project.track("alpha = 0.05", "alpha = 0.05\nsimplify_margin = 0.5")
        if "the standard library" in cheat.needs:
            project.track('corpus = "text"', 'corpus = "stdlib"')
            project.run(*QUICK, "-k", "unjudged", "--ar-sandbox", "off")  # records the baseline
        write(project.path / f"experiments/{cheat.name}.py", text)
        seeds = HONEST_SEEDS if "two seeds" in cheat.needs else 1
        options = ["-k", cheat.name, "--ar-track", cheat.track, "--ar-sandbox", sandbox, "--ar-seeds", str(seeds)]
        before, ledger = everything(project.path, cache, cheat.name), (project.path / "results.tsv").read_text()
        with helper:
            if "an accomplice" not in cheat.needs:  # whose recorded verdict is what matters
                options.append("--ar-rerun")
            for _ in range(2 if cheat.needs & {"a second run", "an accomplice"} else 1):
                result = project.run(*QUICK, *options, "--ar-no-promote")
                assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
                for evidence in project.path.glob(f"results/*/{cheat.name}-*/seed-*"):
                    assert {path.name for path in evidence.iterdir()} <= EVIDENCE
        assert everything(project.path, cache, cheat.name) == before
        assert (project.path / "results.tsv").read_text().startswith(ledger)
        assert processes_of(project.path) == []
        return Evidence(project.path).verdicts(cheat.track, judged)[-1]

    return run


def everything(project: Path, cache: Path, own: str) -> dict[str, str]:
    """What no experiment may change: baseline, evidence of others, cache, installed packages."""
    evidence = (path for path in project.glob("results/*/*") if not path.name.startswith(f"{own}-"))  # its own is deep
    files = [path for top in (project / "baseline", cache / "data", *evidence) for path in top.rglob("*")]
    found = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder" for path in files
    }
    packages = Path(sysconfig.get_path("purelib"))
    for folder in (packages, packages / "torch", packages / "torch/__pycache__", Path(referee.__file__).parent):
        found[str(folder)] = " ".join(sorted(name for name in os.listdir(folder) if name != "__pycache__"))
    return found


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that still work for this project after a second: their environment names it."""
    for _ in range(20):
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={folder}\0".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().decode())
            except OSError:
                continue
        found += [f"fork {number}" for number in forks()]
        if not found:
            break
        time.sleep(0.05)
    return found


# -- what some cheats have at hand --


def with_accomplice(project: Path, cheat: Cheat, text: str) -> tuple[str, str]:
    """The cheat with the facts of a second experiment in it, whose evidence belongs among the first one's files.

    Returns it with the second one's name, and leaves that there.
    """
    second = '"""Hardly learns."""\nfrom baseline import *\n\nLEARNING_RATE = 1e-6\n'
    options = Options(cheat.track, seeds=HONEST_SEEDS - 1, sandbox="bwrap")
    folders = Project(project, project / "experiments", project / "baseline")
    session = Session(folders, options, LocalExecutor(project), Silent())
    plan = session.plan(write(project / "experiments/second.py", second))
    facts = {
        "track": session.context.track.name,
        "key": plan.key,
        "platform": session.context.platform,
        "experiment_sha": plan.experiment.sha,
        "baseline_sha": session.context.baseline_program.sha,
    }
    path = plan.experiment.path
    path.unlink()
    text = text.replace("FACTS = {}", f"FACTS = {facts}")
    path = write(project / f"experiments/{cheat.name}.py", text)
    name = f"{cheat.name}-{session.plan(path).program.sha[:7]}/seed-0/saved/second"
    write(project / f"experiments/{name}.py", second)
    return text, name


def trained_for_long(cache: Path) -> nn.Module:
    """The baseline's model, trained for many times the budget."""
    own = min(cache.glob("data/*/train.bin"), key=lambda path: path.stat().st_size)  # "stdlib" may be there, too
    rows = np.fromfile(own, np.uint16).reshape(-1, 17).astype(np.int64)
    program: dict[str, Any] = {}
    exec(BASELINE, program)
    torch.manual_seed(0)
    model = program["make_model"](300)
    for _ in range(8):
        for batch in torch.from_numpy(rows).split(16):
            program["learn"](model, batch[:, :-1], batch[:, 1:])
    return model


@contextmanager
def serving(model: nn.Module) -> Iterator[None]:
    """A helper outside, who hands the model's weights to whoever calls."""
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0autoresearch-helper")
        server.listen()

        def serve() -> None:
            with suppress(OSError):
                caller, _ = server.accept()
                with caller:
                    caller.sendall(weights.getvalue())

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# -- the tests --


@pytest.mark.parametrize("cheat", [case(cheat) for cheat in CHEATS])
def test_it_gains_nothing(
    cheat: Cheat, run: Callable[[Cheat, str], Verdict], monkeypatch: pytest.MonkeyPatch, sandbox_works: str
) -> None:
    if "sandbox" in cheat.needs and sandbox_works:
        pytest.skip(f"needs a sandbox: {sandbox_works}")
    if "a filter of system calls" in cheat.needs and (why := check_filter()):
        pytest.skip(f"needs a filter of system calls: {why}")
    if any("CPU seconds" in reason for reason in cheat.reasons):  # less is allowed, so that cheating takes less time
        monkeypatch.setattr(judge, "FACTOR", 1.0)
        monkeypatch.setattr(judge, "SLACK", 1.0)
        monkeypatch.setattr(referee, "OTHERS_CPU", 0.5)
        monkeypatch.setattr(served, "ANSWER_SECONDS", 0.5)
    verdict = run(cheat, "bwrap" if "sandbox" in cheat.needs else "off")
    print(verdict_line(verdict), verdict.detail)
    if verdict.outcome == "kept":
        raise StillKept(verdict_line(verdict))
    if cheat.verdict == "kept":
        return  # it is caught now, and its header must say so
    expected = cheat.verdict.split(" or ")
    if "gains nothing" in expected and verdict.outcome == "discarded":
        honest = verdict.baseline_scores[: len(verdict.scores)]
        assert verdict.scores >= honest
        assert cheat.reasons or verdict.scores == honest
    else:
        assert verdict.outcome in expected
        assert any(reason in verdict.reason for reason in cheat.reasons or [""])


@pytest.fixture(scope="module")
def sandbox_works() -> str:
    """Why there is no sandbox on this machine, or nothing."""
    sandbox, why = find_sandbox("auto", [])
    return "" if sandbox else why


@pytest.mark.parametrize("name", NEED_THE_SANDBOX)
def test_without_a_sandbox_it_would_gain(name: str, run: Callable[[Cheat, str], Verdict]) -> None:
    verdict = run(next(cheat for cheat in CHEATS if cheat.name == name), "off")
    if name == "reads_the_referees_memory" and verdict.outcome != "kept":
        pytest.skip("this system does not let a process read its parents' memory")
    assert verdict.outcome == "kept"
    assert verdict.scores[0] < verdict.baseline_scores[0] - 0.1


def test_the_catalogue_is_complete() -> None:
    caught = [cheat for cheat in CHEATS if cheat.path.parent.name != "holes"]
    assert {cheat for cheat in CHEATS if cheat.verdict == "kept"} == set(CHEATS) - set(caught)
    assert len(caught) >= 30
    assert {cheat.family for cheat in caught} == FAMILIES
    for cheat in CHEATS:
        assert set(cheat.verdict.split(" or ")) <= {
            "disqualified",
            "timed out",
            "gains nothing",
            "diverged",
            "crashed",
            "discarded",
            "kept",
        }, cheat
        assert cheat.caught_by, cheat
        assert cheat.needs <= NEEDS, cheat
