"""The local executor: what a run leaves, how it ends, and what it takes to give it its turn."""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_project import BASELINE, TinyProject, processes_of, program

from pytest_autoresearch.candidate.system_calls import NO_PROCESS
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee import local
from pytest_autoresearch.referee.executor import JobSpec, RunProgress, RunResult
from pytest_autoresearch.referee.local import LocalExecutor
from pytest_autoresearch.referee.sandbox import find_sandbox

Execute = Callable[..., RunResult]
SANDBOXES = ["off", pytest.param("bwrap", marks=pytest.mark.skipif(not find_sandbox("auto", [])[0], reason="bwrap"))]


def during(action: str) -> str:
    """The baseline, with a line before its `return`."""
    assert "    return model\n" in BASELINE
    return "import os, signal, sys, time\n" + BASELINE.replace(
        "    return model\n", f"    {action}\n    return model\n"
    )


# -- a run --


@pytest.mark.parametrize("isolation", SANDBOXES)
def test_a_run_has_a_score_and_leaves_its_evidence(execute: Execute, evidence: Path, isolation: str) -> None:
    stages: list[RunProgress] = []
    result = execute(on_progress=stages.append, isolation=isolation)
    assert result.val_bpb
    assert result.val_bpb == pytest.approx(2.7, abs=0.2)
    assert (result.failure, result.interrupted, result.steps, result.tokens) == (None, False, 12, 12 * 8 * 16)
    assert result.isolation == ("sandbox" if isolation == "bwrap" else "process")
    assert len(result.rng_digest) == 3
    assert sum(loss is not None for loss in result.curve) == 12
    assert {path.name for path in evidence.iterdir()} == {"program.py", "log.txt", "result.json"}
    assert json.loads((evidence / "result.json").read_text())["val_bpb"] == result.val_bpb
    assert (evidence / "program.py").read_text() == BASELINE
    assert stages[0].stage == "starting"
    assert (stages[-1].stage, stages[-1].done) == ("scoring", 1.0)


def test_what_an_earlier_run_has_left_goes(execute: Execute, evidence: Path) -> None:
    evidence.mkdir(parents=True)
    (evidence / "old").write_text("x")
    execute("def train(run):\n    raise ValueError('no')\n")
    assert not (evidence / "old").exists()


@pytest.mark.parametrize("isolation", SANDBOXES)
def test_nothing_that_a_program_writes_stays(
    execute: Execute, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """Not even folders that are locked or deeper than paths are long, nor compiled code; its program is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = """
import os, tempfile
from pathlib import Path

def train(run):
    print("works in", os.getcwd())
    assert Path.cwd().is_relative_to(tempfile.gettempdir())
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert Path(os.environ[name]).is_relative_to(Path.cwd()), name
        Path(os.environ[name]).mkdir(parents=True)
    os.mkfifo("pipe")
    Path("locked/inside").mkdir(parents=True)
    Path("setuid").write_text("#!/bin/sh")
    Path("setuid").chmod(0o4755)
    Path("locked").chmod(0)
    for _ in range(1200):
        os.mkdir("ten-of-ten")
        os.chdir("ten-of-ten")
    raise ValueError("written")
"""
    assert execute(source, isolation=isolation).reason == "ValueError: written"
    assert list(tmp_path.glob("autoresearch-*")) == list(tmp_path.glob(".autoresearch-*")) == []
    assert {path.name for path in evidence.iterdir()} == {"program.py", "log.txt", "result.json"}
    place = Path((evidence / "log.txt").read_text().splitlines()[0].removeprefix("works in "))
    assert place.parent == (Path("/tmp") if isolation == "bwrap" else tmp_path)
    assert not place.exists()


def test_a_program_that_compiles_for_a_budget_in_flop_is_told(execute: Execute, spec: JobSpec, evidence: Path) -> None:
    source = "def train(run):\n    print('first word')  # torch.compile\n"
    execute(source)
    assert (evidence / "log.txt").read_text() == "first word\n"
    flop = replace(spec.track, budget=replace(spec.track.budget, amount=1e9, unit="flop"))
    execute(source, track=flop)
    first, second = (evidence / "log.txt").read_text().splitlines()
    assert "torch.compile does nothing here" in first
    assert second == "first word"


@pytest.mark.parametrize(
    "start",
    [
        "next(iter(torch.utils.data.DataLoader(range(8), num_workers=2)))",
        "__import__('multiprocessing').get_context('spawn').Process().start()",
    ],
)
def test_a_program_that_needs_processes_is_told_why_it_gets_none(execute: Execute, spec: JobSpec, start: str) -> None:
    flop = replace(spec.track, budget=replace(spec.track.budget, amount=1e9, unit="flop"))
    result = execute(program(start), track=flop)
    assert (result.failure, result.reason) == (Outcome.CRASHED, f"PermissionError: {NO_PROCESS}")
    assert execute(program(start.replace("Process().start", "Semaphore"))).failure is None


# -- how it ends --


def test_a_signal_is_said_and_may_be_an_interruption(execute: Execute) -> None:
    result = execute("import os\n\ndef train(run):\n    print('last line')\n    os.kill(os.getpid(), 11)\n")
    assert (result.failure, result.reason, result.interrupted) == (Outcome.CRASHED, "killed by SIGSEGV", False)
    assert result.detail == "last line"
    result = execute("import os\n\ndef train(run):\n    os.kill(os.getpid(), 15)\n")
    assert (result.failure, result.reason, result.interrupted) == (Outcome.CRASHED, "killed by SIGTERM", True)


@pytest.mark.skipif(not find_sandbox("auto", [])[0], reason="bubblewrap does not work here")
def test_a_sandbox_hides_no_signal(execute: Execute) -> None:
    result = execute("import os\n\ndef train(run):\n    os.kill(os.getpid(), 9)\n", isolation="bwrap")
    assert (result.reason, result.interrupted) == ("killed by SIGKILL", True)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (program(result="lambda t: time.sleep(99)"), "still scoring after 5 s"),
        (program("while True: pass"), "still training (0% of the budget) after 5 s"),
    ],
)
def test_the_referee_has_its_own_deadline(
    execute: Execute, spec: JobSpec, project: TinyProject, source: str, where: str
) -> None:
    track = replace(spec.track, budget=replace(spec.track.budget, limit=5.0))
    result = execute(source, track=track)
    assert (result.failure, result.reason, result.val_bpb) == (Outcome.TIMED_OUT, where, None)
    assert processes_of(project.path) == []


def test_a_timer_of_the_callers_is_a_time_out_too(execute: Execute, project: TinyProject) -> None:
    def late(progress: RunProgress) -> None:
        if progress.stage == "training":
            raise TimeoutError

    result = execute(program("time.sleep(0.2)"), late)
    assert result.failure == Outcome.TIMED_OUT
    assert result.reason.startswith("still training (")
    assert processes_of(project.path) == []


def test_anything_else_that_is_raised_meanwhile_passes_and_ends_the_run(execute: Execute, project: TinyProject) -> None:
    def interrupt(progress: RunProgress) -> None:
        if progress.stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(program("time.sleep(99)"), interrupt)
    assert processes_of(project.path) == []


def test_a_file_in_the_way_is_an_error_of_the_caller(execute: Execute, evidence: Path) -> None:
    evidence.parent.write_text("a file")
    with pytest.raises(OSError, match="results"):
        execute()


# -- files that it saves --


@pytest.mark.parametrize("isolation", SANDBOXES)
def test_saved_files_come_whole(execute: Execute, evidence: Path, isolation: str) -> None:
    source = during("""run.save("weights-1.bin", bytes(range(256)) * 5000)
    run.save("empty", b"")
    run.save("notes.txt", b"first")
    run.save("notes.txt", b"second")""")
    assert execute(source, isolation=isolation).val_bpb
    saved = {path.name: path.read_bytes() for path in (evidence / "saved").iterdir()}
    assert saved == {"weights-1.bin": bytes(range(256)) * 5000, "empty": b"", "notes.txt": b"second"}
    assert not os.access(evidence / "saved/empty", os.X_OK)


def test_files_of_a_run_that_fails_are_kept_and_a_link_in_the_way_is_not_followed(
    execute: Execute, evidence: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    source = f"""
import os, pathlib

def train(run):
    os.symlink({str(tmp_path / "elsewhere")!r}, pathlib.Path(__file__).parent / "saved")  # there is no sandbox
    run.save("x", b"kept")
    run.save("../x", b"not allowed")
"""
    result = execute(source)
    assert result.failure == Outcome.CRASHED
    assert result.reason.startswith("ValueError: cannot save '../x': a name has at most 100 letters")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert (evidence / "saved/x").read_bytes() == b"kept"
    assert not (evidence / "saved").is_symlink()


def test_nothing_is_saved_once_training_is_over(execute: Execute) -> None:
    source = during("served = lambda t: run.save('late', b'x')").replace("return model\n", "return served\n")
    result = execute(source)
    assert result.reason == "ValueError: cannot save 'late': `train` has returned"


# -- logits --


def test_logits_come_in_a_type_that_is_known(execute: Execute) -> None:
    lies = "say = run._send\n    return lambda t: say(protocol.Answered(0, 0, 'int64')) or model(t)\n"
    source = "from pytest_autoresearch.core import protocol\n" + BASELINE.replace("return model\n", lies)
    result = execute(source)
    assert result.failure == Outcome.DISQUALIFIED
    assert result.reason.startswith("sent an unexpected message: Answered(")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_logits_of_any_float_type_are_scored(execute: Execute, dtype: str) -> None:
    """In 16 bits they stay as they are on the way: the score is that of the same numbers in float32."""
    model = f"lambda t: model(t).to(torch.{dtype})"
    found = execute(BASELINE.replace("return model\n", f"return {model}\n")).val_bpb
    assert found == execute(BASELINE.replace("return model\n", f"return {model}.float()\n")).val_bpb


# -- this machine --


def test_isolation_is_tried_out_once(executor: LocalExecutor, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(local, "find_sandbox", lambda mode, *hidden: asked.append(mode) or (None, "no sandbox: none"))
    monkeypatch.setattr(local, "check_filter", lambda wrap: "")
    monkeypatch.setattr(local, "check_sharing", lambda wrap: "the driver shares no memory here")
    cpu, cuda = spec.track, replace(spec.track, device="cuda")
    for _ in range(2):
        assert executor.isolation("auto", cpu).words == "no sandbox: none"
        found = executor.isolation("auto", cuda)
    assert found.kind == "process"
    assert found.words == "no sandbox: none, logits copied through the host: the driver shares no memory here"
    assert asked == ["auto", "auto"]
    monkeypatch.setattr(local, "check_sharing", lambda wrap: "")
    assert executor.isolation("off", cuda).words == "no sandbox: none"


def test_a_sandbox_that_is_not_there_is_said(
    executor: LocalExecutor, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(local, "check_filter", lambda wrap: "")
    with pytest.raises(UsageError, match="bubblewrap is not installed"):
        executor.isolation("bwrap", spec.track)
    assert executor.isolation("auto", spec.track).words == "no sandbox: bubblewrap is not installed"


@pytest.mark.skipif(not find_sandbox("auto", [])[0], reason="bubblewrap does not work here")
def test_what_is_to_be_hidden_is_hidden(project: TinyProject, spec: JobSpec, evidence: Path, cache: Path) -> None:
    (project.path.parent / "secret").mkdir(exist_ok=True)
    (project.path.parent / "secret/x").write_text("x")
    track = replace(spec.track, corpus="../secret")
    executor = LocalExecutor(project.path)
    paths = [str(path) for path in (project.path.parent / "secret", project.path / "text", cache)]
    source = f"import os\n\ndef train(run):\n    print([os.path.exists(p) and os.listdir(p) for p in {paths}])\n"
    executor.run(replace(spec, source=source, isolation="bwrap", track=track), lambda progress: None)
    assert (evidence / "log.txt").read_text() == "[[], False, []]\n"


@pytest.mark.parametrize("unit", ["s", "steps"])
def test_runs_take_turns_where_time_is_the_budget(execute: Execute, spec: JobSpec, cache: Path, unit: str) -> None:
    track = replace(spec.track, budget=replace(spec.track.budget, amount=1, unit=unit))
    seen: list[RunProgress] = []
    with FileLock(cache / "cpu.lock"):
        thread = threading.Thread(target=lambda: execute("def train(run): 0 / 0\n", seen.append, track=track))
        thread.start()
        time.sleep(0.3)
        assert bool(seen) == (unit != "s")
    thread.join()
    assert seen


def test_what_is_printed_while_scoring_is_not_kept(execute: Execute, evidence: Path) -> None:
    """A later program could be told by it which rows are no decoys. Errors are told all the same."""
    talks = BASELINE.replace("return model", "print('trained'); return lambda tokens: print('asked') or model(tokens)")
    assert "asked" in talks
    assert execute(talks).val_bpb
    assert (evidence / "log.txt").read_text() == "trained\n"
    assert execute(talks.replace("or model(tokens)", "or 1 / 0")).reason == "ZeroDivisionError: division by zero"


def test_a_seed_gives_the_same_score_in_every_isolation_and_another_seed_another(execute: Execute) -> None:
    first = execute().val_bpb
    assert execute().val_bpb == first
    if sys.platform == "linux" and find_sandbox("auto", [])[0]:
        assert execute(isolation="bwrap").val_bpb == first
    assert execute(seed=1).val_bpb != first


def test_a_log_after_the_end_is_not_heard(execute: Execute) -> None:
    """A loop that somebody still holds, or a model that logs, is no forged message."""
    late = "def late(tokens):\n        run.log(1.0)\n        return model(tokens)\n    next(batches := run.batches(4))"
    source = program(result="late").replace("    for step", f"    {late}\n    run.cycle = batches\n    for step")
    assert execute(source).val_bpb
