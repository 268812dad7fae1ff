"""Compiled code from run to run: made by a rehearsal, copied into runs, and nothing learned comes along."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import pytest
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.referee import compiled
from pytest_autoresearch.referee import local as referee
from pytest_autoresearch.referee.compiled import CompiledCode

# -- the folder --


def test_the_oldest_programs_go_and_the_baseline_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT_PROGRAMS", 2)
    code = CompiledCode.of(tmp_path, {"device": "x"}, "b" * 64)
    for age, sha in enumerate(["b" * 64, "1" * 64, "2" * 64, "3" * 64, "4" * 64]):
        made = write(tmp_path / "made/code", sha).parent
        os.utime(code.keep(made, sha), (age, age))
    assert sorted(path.name[0] for path in code.folder.iterdir()) == ["2", "3", "4", "b"]
    assert code.find("1" * 64) is None
    kept = code.find("3" * 64)
    assert kept
    assert (kept / "code").read_text() == "3" * 64
    assert CompiledCode.of(tmp_path, {"device": "y"}, "b" * 64).find("3" * 64) is None  # of another platform


def test_what_cannot_be_copied_whole_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CompiledCode.of(tmp_path, {"device": "x"}, "b" * 64)
    made = write(tmp_path / "made/code", "x" * 100).parent

    def full(old: BinaryIO, new: BinaryIO) -> None:
        new.write(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        code.keep(made, "1" * 64)
    assert code.find("1" * 64) is None
    assert not list(code.folder.iterdir())


# -- the rehearsal --

WRITES = (
    BASELINE.replace(
        "def train(run):",
        """def train(run):  # has no need to compile
    import os, pathlib
    cache = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    print("found", *sorted(path.read_text() for path in cache.glob("*.txt")))
    cache.mkdir(exist_ok=True)
    seen = 0""",
    )
    .replace(
        "        run.log(loss)", '        run.log(loss)\n        seen += 1\n        print("tokens", tokens[0].tolist())'
    )
    .replace("    return model\n", '    (cache / f"{seen}.txt").write_text(f"{NAME}:{seen}")\n    return model\n')
    + 'NAME = "baseline"\n'
)
"""Leaves a word in the folder of compiled code, and says what it finds there."""


def found_in(path: Path) -> str:
    return path.read_text().splitlines()[0]


def test_runs_begin_with_what_was_rehearsed_and_leave_nothing_behind(project: TinyProject, cache: Path) -> None:
    write(project.path / "baseline/cpu/train.py", WRITES)
    project.track('train = "12 steps"', 'train = "0.2 s"')
    project.experiment("faster", 'NAME = "faster"\nLEARNING_RATE = 4e-3')
    project.run("--ar-sandbox", "off")
    results = project.path / "results/cpu"
    logs = {str(path.relative_to(results)): found_in(path) for path in results.rglob("log.txt")}
    of_baseline = [found for name, found in logs.items() if name.startswith("baseline-")]
    of_faster = [found for name, found in logs.items() if name.startswith("faster-")]
    assert of_baseline == ["found baseline:10"] * 2  # ten steps, whatever the budget; no run finds another's
    assert set(of_faster) == {"found faster:10"}  # it began with the baseline's, and wrote over it
    assert not list(results.rglob("rehearsal"))
    assert not list(results.rglob("compiled"))


@pytest.fixture
def job(project: TinyProject) -> Callable[..., referee.Job]:
    track = read_track(project.path / "baseline/cpu")
    data = prepare(
        track.corpus,
        root=project.path,
        vocab_size=track.vocab_size,
        sequence_length=track.sequence_length,
        eval_tokens=track.eval_tokens,
    )

    def make(name: str, source: str, **others: object) -> referee.Job:
        return referee.Job(track, data, source, 0, project.path / name, **others)  # type: ignore[arg-type]

    return make


def test_a_rehearsal_sees_none_of_the_text(job: Callable[..., referee.Job]) -> None:
    made = referee.rehearse(job("rehearsal", WRITES), lambda seconds: nullcontext())
    assert made
    real = {tuple(row) for row in job("x", "").data.train_rows[:, :-1].tolist()}

    def rows(log: Path) -> list[tuple[int, ...]]:
        lines = [line.partition("[")[2].rstrip("]") for line in log.read_text().splitlines() if "tokens" in line]
        return [tuple(map(int, line.split(", "))) for line in lines]

    rehearsed = rows(made.parent / "log.txt")
    assert len(rehearsed) == referee.REHEARSAL_STEPS
    assert not real.intersection(rehearsed)
    result = referee.run(job("run", WRITES, compiled=made), lambda seconds: nullcontext())
    assert result.val_bpb
    assert real.issuperset(rows(made.parents[1] / "run/log.txt"))


def test_a_program_that_fails_leaves_no_compiled_code(job: Callable[..., referee.Job]) -> None:
    source = WRITES.replace("    return model\n", "    raise ValueError('does not compile')\n")
    assert referee.rehearse(job("rehearsal", source), lambda seconds: nullcontext()) is None
    assert not (job("rehearsal", "").folder / "compiled").exists()


COMPILES = BASELINE.replace("nn.Linear(WIDTH", "Mix(), nn.Linear(WIDTH").replace(
    "    return model\n",
    """    served = torch.compile(model)

    def answer(tokens):
        logits = served(tokens)
        print(dict(counters["inductor"]), dict(counters["aot_autograd"]))
        return logits

    return answer


from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel


class Mix(nn.Module):
    def forward(self, x):
        with sdpa_kernel([SDPBackend.MATH]):  # for which torch would not keep the graph
            return x + F.scaled_dot_product_attention(x, x, x, is_causal=True)
""",
)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_what_was_compiled_in_the_rehearsal_is_not_compiled_again(job: Callable[..., referee.Job]) -> None:
    made = referee.rehearse(job("rehearsal", COMPILES), lambda seconds: nullcontext())
    assert made
    assert "fxgraph_cache_miss" in (made.parent / "log.txt").read_text()
    result = referee.run(job("run", COMPILES, compiled=made), lambda seconds: nullcontext())
    assert result.val_bpb
    log = (made.parents[1] / "run/log.txt").read_text()
    for level in ("fxgraph", "autograd"):
        assert f"{level}_cache_hit" in log
        assert f"{level}_cache_miss" not in log
        assert f"{level}_cache_bypass" not in log
