"""Whatever an experiment or a set-up does wrong is one clear line, and the session goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import TinyProject, processes_of, program, write

pytestmark = pytest.mark.usefixtures("recorded")


Outcomes = Callable[[pytest.RunResult], dict[str, str]]

BROKEN = {
    # name: (source, the word, what its line says)
    "bad_syntax": ("def train(run:\n", "CRASHED", "experiments/bad_syntax.py:1:"),
    "no_train": ("x = 1\n", "CRASHED", "no_train.py: neither a program (it defines no `train`) nor an overlay"),
    "zero_bytes": ("", "CRASHED", "zero_bytes.py: empty"),
    "returns_none": (program(result="None"), "CRASHED", "`train` returned None; it must return a callable"),
    "wrong_shape": (
        program(result="lambda tokens: torch.zeros(2, 3)"),
        "CRASHED",
        "logits are (2, 3) torch.float32; they must be (B, T, vocab) = (16, 16, 300)",
    ),
    "no_tensor": (program(result="lambda tokens: 'logits'"), "CRASHED", "the model returned a str"),
    "at_import": (program(top="import no_such_module"), "CRASHED", "ModuleNotFoundError: No module named"),
    "at_step_5": (program("if step == 5: raise ValueError('five')"), "CRASHED", "ValueError: five"),
    "exits": (program("os._exit(3)"), "CRASHED", "the process ended itself with exit code 3"),
    "sys_exits": (program("sys.exit('done')"), "CRASHED", "SystemExit: done"),
    "killed": (program("os.kill(os.getpid(), 11)"), "CRASHED", "killed by SIGSEGV"),
    "nan": (program("loss = loss * float('nan')"), "DIVERGED", "loss is nan in step 1"),
    "nan_logits": (program(result="lambda t: model(t) * float('nan')"), "DIVERGED", "logits hold NaN"),
    "no_memory": (
        program("torch.empty(10**15)"),
        "OUT OF MEMORY",
        "4,000,000 GB asked; lower the batch size or the model",
    ),
    "too_many_steps": (program("[next(run.batches(4)) for _ in range(99)]"), "CRASHED", "StopIteration"),
    "huge_message": (program("raise ValueError('x' * 3_000_000)"), "CRASHED", "ValueError: xxx"),
    "half_a_pair": (program("raise ValueError(chr(0xd800))"), "CRASHED", "ValueError: \ufffd"),
    "no_such_count": (
        program("""os.write(int(sys.argv[1]), b'{"event":"stepped","tokens":Infinity,"flop":0}' + bytes([10]))"""),
        "DISQUALIFIED",
        "sent an unreadable message",
    ),
    "logs_nothing_finite": (
        program("run.log(1.0, scale=float('inf'))", result="None"),
        "CRASHED",
        "`train` returned None",
    ),
    "forged": (
        program("os.write(int(sys.argv[1]), b'nonsense\\n')"),
        "DISQUALIFIED",
        "sent an unreadable message: nonsense",
    ),
    "looks_ahead": (
        program(result="lambda t: torch.nn.functional.one_hot(t.roll(-1, 1), run.vocab_size) * 9.0"),
        "DISQUALIFIED",
        "logits depend on tokens that come later",
    ),
}


def test_each_broken_experiment_is_one_line_and_the_session_goes_on(project: TinyProject, outcomes: Outcomes) -> None:
    (project.path / "baseline/cpu/baseline.json").unlink()
    for name, (source, _, _) in BROKEN.items():
        write(project.path / f"experiments/{name}.py", source)
    (project.path / "experiments/latin1.py").write_bytes(b'"""caf\xe9"""\n')
    project.experiment("zz_good", "LEARNING_RATE = LEARNING_RATE * 10")
    result = project.run("-v", "--ar-seeds", "1")
    said = outcomes(result)
    for name, (_, word, line) in BROKEN.items():
        assert said[name].startswith(word), said[name]
        assert line in result.stdout.str(), name
    assert "latin1.py:1: not UTF-8 (byte 0xe9)" in said["latin1"]
    assert said["zz_good"].startswith("KEPT ")
    assert len(said) == len(BROKEN) + 2
    # the traceback of a crash shows the program's own frames, and nothing of the harness
    crash = result.stdout.str().split("_ at_step_5 _")[1].partition("\n")[2].split("____")[0]
    assert "program.py" in crash
    assert "pytest_autoresearch" not in crash
    statuses = {row["experiment"]: row["status"] for row in project.rows}
    assert statuses.pop("zz_good") == "pass"
    assert statuses.pop("baseline") == "keep"
    assert set(statuses.values()) == {"crash"}


def test_children_end_with_their_run(project: TinyProject) -> None:
    """One stays in the process group, one leaves its session, one is orphaned on top of that."""
    sleep = f"[sys.executable, '-c', 'import time; time.sleep(600)', {str(project.path)!r}]"
    orphan = f"import subprocess; subprocess.Popen({sleep}, start_new_session=True)".replace(
        "sys.executable", "'python3'"
    )
    inside = f"""if step == 0:
            subprocess.Popen({sleep})
            subprocess.Popen({sleep}, start_new_session=True)
            subprocess.run([sys.executable, '-c', {orphan!r}, {str(project.path)!r}])"""
    write(project.path / "experiments/forks.py", program(inside))
    write(project.path / "experiments/forks_and_exits.py", program(inside + "\n            os._exit(3)"))
    result = project.run("--ar-seeds", "1")
    assert "exit code 3" in result.stdout.str()
    assert processes_of(project.path) == []


def test_100_megabytes_of_output_cost_two_in_the_log(project: TinyProject) -> None:
    write(project.path / "experiments/loud.py", program("print('x' * 10_000_000 + str(step), flush=True)"))
    project.run("--ar-seeds", "1")
    log = next(project.path.glob("results/cpu/loud-*/seed-0/log.txt"))
    assert log.stat().st_size < 4e6
    assert log.read_text().startswith("xxxx")
    assert log.read_text().rstrip().endswith("x11")
    assert "bytes not kept" in log.read_text()


def test_a_cache_corrupted_by_hand_is_rebuilt(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "own"))
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    project.run("--ar-seeds", "1")
    rows = next((tmp_path / "own").glob("data/*/train.bin"))
    good = rows.read_bytes()
    os.chmod(rows, 0o644)
    rows.write_bytes(b"\0" * len(good))
    result = project.run("--ar-seeds", "1", "--ar-rerun")
    assert result.parseoutcomes() == {"failed": 1}
    assert rows.read_bytes() == good
