"""What a verdict may be trusted for: the sandbox, the luck, the memory, simplicity. Cheats have tests of their own."""

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_project import TinyProject, program, write

from pytest_autoresearch.candidate.flop import counting
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.programs.compare import code_lines
from pytest_autoresearch.programs.seeds import find_fixed_seed
from pytest_autoresearch.referee.sandbox import Sandbox, find_sandbox

pytestmark = pytest.mark.usefixtures("recorded")


Outcomes = Callable[[pytest.RunResult], dict[str, str]]

needs_sandbox = pytest.mark.skipif(find_sandbox("auto", [])[0] is None, reason="bubblewrap does not work here")

# -- the sandbox --

LOOKS_AROUND = """
import os, socket

def make_model(vocab_size):
    for path in PATHS:
        try:
            print(path, sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read(9)[:9])
        except OSError as error:
            print(path, error.strerror)
    for path in ("/usr/x", __file__, f"{PROJECT}/x", f"{PROJECT}/results/x", "x", "/tmp/x"):
        try:
            open(path, "a").close()
            print("wrote", path)
        except OSError:
            print("cannot write", os.path.relpath(path, PROJECT) if PROJECT in path else path)
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=5)
        print("connected")
    except OSError as error:
        print("no network")
    print("processes", sum(name.isdigit() for name in os.listdir("/proc")))
    return nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))
"""


@needs_sandbox
def test_a_candidate_sees_python_and_its_own_folder(project: TinyProject, cache: Path) -> None:
    home = Path.home()
    write(project.path / "secret.txt", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        paths = [str(path) for path in (project.path, project.path / "secret.txt", cache, home / ".cache")]
        names = f"PROJECT = {str(project.path)!r}\nPATHS = {paths}\n"
        project.experiment("looks", f"{names}PORT = {server.getsockname()[1]}\n{LOOKS_AROUND}")
        result = project.run("--ar-seeds", "1")
    assert "1 seed, sandbox bubblewrap" in result.stdout.str()
    assert re.search(
        r"DISCARDED \d\.\d{4} \(\+0\.0000\)", result.stdout.str()
    )  # as good as the baseline: the sandbox costs no score
    log = next(project.path.glob("results/cpu/looks-*/seed-0/log.txt")).read_text()
    assert f"{project.path} ['results', 'text']" in log  # hidden, and on the way to its own folder
    assert f"{project.path}/secret.txt No such file" in log
    assert f"{cache} []" in log
    assert f"{home}/.cache No such file" in log
    own = next(project.path.glob("results/cpu/looks-*/seed-0"))
    program = own.relative_to(project.path) / "program.py"
    unwritable = f"cannot write /usr/x\ncannot write {program}\ncannot write x\ncannot write results/x\n"
    assert f"{unwritable}wrote x\nwrote /tmp/x\nno network" in log
    assert "processes 3" in log  # bubblewrap's, the watcher, and the program
    assert {p.name for p in own.iterdir()} == {"program.py", "log.txt", "result.json"}


def test_without_bubblewrap_the_header_says_so(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = project.run("--ar-seeds", "1", "--co")
    assert "1 seed, no sandbox: bubblewrap is not installed" in result.stdout.str()
    result = project.run("--ar-seeds", "1", "--ar-sandbox", "bwrap")
    result.assert_outcomes(errors=1)
    assert "--ar-sandbox bwrap: bubblewrap is not installed" in result.stdout.str()


def test_a_sandbox_that_does_not_work_is_not_used(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write(
        tmp_path / "bin/bwrap", "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    result = project.run("--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    assert f"no sandbox: {broken} does not work here (bwrap: No permissions" in result.stdout.str()
    assert "no sandbox (--ar-sandbox off)" in project.run("--ar-sandbox", "off").stdout.str()
    with pytest.raises(UsageError, match=r"--ar-sandbox bwrap: .* does not work here"):
        find_sandbox("bwrap", [])


def test_rows_cannot_be_written_through_their_descriptor(tmp_path: Path) -> None:
    write(tmp_path / "train.bin", "abcd")
    rows = Prepared("key", tmp_path, 300, 1).open_train_rows()
    assert os.pread(rows, 9, 0) == b"abcd"
    again = os.open(f"/proc/self/fd/{rows}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.pwrite(again, b"x", 0)
    assert (tmp_path / "train.bin").read_text() == "abcd"


def test_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Sandbox.environment(
        {"PATH": "/bin", "HF_TOKEN": "x", "SSH_AUTH_SOCK": "/x", "SOME_API_KEY": "x", "HOME": "/x"}
    )
    assert given.keys() == {"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME"}
    assert given["HOME"] != "/x"


@needs_sandbox
def test_the_system_cannot_be_changed_and_its_secrets_not_read() -> None:
    sandbox, _ = find_sandbox("bwrap", [])
    assert sandbox is not None
    script = "for f in /etc/shadow /proc/sys/vm/overcommit_memory; do cat $f; [ -e $f ] && cat $f >> $f; done"
    done = subprocess.run(sandbox.wrap(["sh", "-c", script]), capture_output=True, text=True, check=False)
    assert "root:" not in done.stdout
    assert "Read-only file system" in done.stderr


def test_a_log_after_the_end_is_not_heard(project: TinyProject) -> None:
    """A loop that somebody still holds, or a model that logs, is no forged message."""
    late = "def late(tokens):\n        run.log(1.0)\n        return model(tokens)\n    next(batches := run.batches(4))"
    source = program(result="late").replace("    for step", f"    {late}\n    run.cycle = batches\n    for step")
    write(project.path / "experiments/late.py", source)
    result = project.run("--ar-seeds", "1")
    assert re.search(r"(KEPT|DISCARDED) \d", result.stdout.str())


# -- luck --


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.manual_seed(42)", "torch.manual_seed(42)"),
        ("SEED = 7\nnp.random.seed(SEED)", "np.random.seed(SEED)"),
        ("x = np.random.default_rng()", "np.random.default_rng()"),
        ("g = torch.Generator().manual_seed(1 + 2)", "torch.Generator().manual_seed(1 + 2)"),
        ("torch.manual_seed(run.seed + 1)", ""),
        ("g.manual_seed(seed)", ""),
        ("x = torch.rand(3)", ""),
    ],
)
def test_a_seed_of_its_own_is_found(line: str, found: str) -> None:
    assert find_fixed_seed(line) == found


def test_whoever_brings_a_seed_is_disqualified_and_a_baseline_that_does_is_refused(
    project: TinyProject, outcomes: Outcomes
) -> None:
    project.experiment("constant", "torch.manual_seed(42)")
    project.experiment("hidden", "seed = 42\ntorch.manual_seed(seed)\nLEARNING_RATE = LEARNING_RATE * 10")
    said = outcomes(project.run("-v"))
    assert said["constant"].startswith("DISQUALIFIED `torch.manual_seed(42)`: random numbers must follow from run.seed")
    assert said["hidden"].startswith("DISQUALIFIED")
    assert "the same random numbers for seed 1 as for another" in said["hidden"]
    with (project.path / "baseline/cpu/train.py").open("a") as file:
        file.write("\ntorch.manual_seed(42)\n")
    result = project.run("-k", "constant", "--ar-retest")
    assert (
        "baseline/cpu/train.py: `torch.manual_seed(42)`: random numbers must follow from run.seed"
        in result.stdout.str()
    )


def test_flop_of_threads_are_counted() -> None:
    a = torch.ones(8, 8)
    with counting() as flop:
        a @ a
        alone = flop()
        for start in (lambda: threading.Thread(target=lambda: a @ a), lambda: threading.Timer(0, lambda: a @ a)):
            thread = start()
            thread.start()
            thread.join()
        assert flop() == 3 * alone
        done = threading.Event()
        import _thread

        _thread.start_new_thread(lambda: (a @ a, done.set()), ())
        done.wait()
        assert flop() == 4 * alone
    assert alone == 2 * 8**3


# -- memory --


def test_memory_that_the_track_does_not_allow(project: TinyProject, outcomes: Outcomes) -> None:
    project.track('limit = "60 s"', 'limit = "60 s"\nmemory = "2 GB"')
    write(project.path / "experiments/asks.py", program("torch.empty(31 * 10**9, dtype=torch.uint8)"))
    shared = (
        "import mmap\nheld = mmap.mmap(-1, 3 * 10**9)\nfor i in range(0, len(held), 4096): held[i] = 1\ntime.sleep(5)"
    )
    write(project.path / "experiments/shares.py", program(top=shared))  # what RLIMIT_DATA does not see
    said = outcomes(project.run("--ar-seeds", "1", "-v"))
    remedy = "2 GB allowed in all; lower the batch size or the model"
    assert said["asks"].startswith(f"OUT OF MEMORY 31 GB asked, {remedy}")
    assert said["shares"].startswith("OUT OF MEMORY ")
    assert "GB used, 2 GB allowed; lower the batch size or the model" in said["shares"]
    assert {row["status"] for row in project.rows} == {"keep", "crash"}


def test_a_candidate_is_the_first_to_go(project: TinyProject) -> None:
    show = "print('adj', open('/proc/self/oom_score_adj').read())"
    write(project.path / "experiments/shows.py", program(top=show))
    project.run("--ar-seeds", "1")
    assert "adj 1000" in next(project.path.glob("results/cpu/shows-*/seed-0/log.txt")).read_text()


def test_memory_growth_is_shown_and_may_be_bounded(project: TinyProject, outcomes: Outcomes) -> None:
    hungry = "LEARNING_RATE = LEARNING_RATE * 10\n_held = torch.ones(10**8)"
    project.experiment("hungry", hungry)
    result = project.run("--ar-seeds", "1")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(r"hungry .* 0\.\d GB \+\d+% .* KEPT")
    project.track("alpha = 0.05", "alpha = 0.05\nmax_memory_growth = 0.5")
    result = project.run("--ar-seeds", "1")
    assert outcomes(result)["hungry"].startswith("DISCARDED ")
    result.stdout.re_match_lines(r".*takes too much memory: 0\.\d GB, the baseline 0\.\d GB, 50% more is allowed")


# -- simpler is a win --

SIMPLER = """
GOAL = "simplify"

def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        for weights, grad in zip(model.parameters(), torch.autograd.grad(loss, model.parameters())):
            weights.data -= LEARNING_RATE * grad.sign()
        run.log(loss)
    return model
"""


def test_simpler_and_hardly_worse_is_kept(project: TinyProject, outcomes: Outcomes) -> None:
    project.track("alpha = 0.05", "alpha = 0.05\nnoise = 0.001\nsimplify_margin = 0.005")
    overlay = f"from baseline import *\n{SIMPLER}"
    write(project.path / "experiments/simpler.py", f'"""Simpler."""\n{overlay}')
    write(project.path / "experiments/worse.py", f'"""Worse."""\n{overlay}\nLEARNING_RATE = LEARNING_RATE / 100\n')
    project.experiment("longer", 'GOAL = "simplify"\nLEARNING_RATE = LEARNING_RATE * 1.0')
    result = project.run("-v")
    said = outcomes(result)
    assert said["simpler"].startswith("KEPT ")
    assert said["simpler"].partition(") ")[2].startswith("worse by less than 0.005")
    assert said["worse"].startswith("DISCARDED ")
    assert "is no simpler: 20 lines of code, the baseline has 19" in said["longer"]
    assert "promoted simpler" in result.stdout.str()
    assert "GOAL" not in (project.path / "baseline/cpu/train.py").read_text()


def test_a_gain_goes_before_a_simplification(project: TinyProject) -> None:
    project.track("alpha = 0.05", "alpha = 0.05\nsimplify_margin = 0.1")
    write(project.path / "experiments/simpler.py", f"from baseline import *\n{SIMPLER}LEARNING_RATE = 0.05\n")
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    result = project.run()
    result.assert_outcomes(passed=2)
    assert "promoted faster" in result.stdout.str()


def test_a_goal_needs_a_margin_and_there_is_one_goal(project: TinyProject, outcomes: Outcomes) -> None:
    write(project.path / "experiments/simpler.py", f"from baseline import *\n{SIMPLER}")
    project.experiment("other", 'GOAL = "win"\nWIDTH = 8')
    result = project.run("--ar-seeds", "1", "-v")
    assert (
        'experiments/simpler.py: GOAL = "simplify" needs simplify_margin in baseline/cpu/track.toml'
        in result.stdout.str()
    )
    assert "GOAL = 'win': must be \"simplify\"" in outcomes(result)["other"]


def test_lines_of_code_are_not_comments_or_layout() -> None:
    source = '"""Doc."""\n\n# why\nx = [\n    1,\n    2,\n]\n\n\ndef f():\n    """Doc."""\n    return x\n'
    assert code_lines(source) == code_lines("x = [1, 2]\ndef f(): return x") == 3


def test_a_file_is_no_place_for_weights(project: TinyProject, outcomes: Outcomes) -> None:
    weights = np.random.default_rng(0).bytes(40_000).hex()
    project.experiment("pretrained", f"WEIGHTS = '{weights}'\nWIDTH = 8")
    said = outcomes(project.run("--ar-seeds", "1", "-v"))
    assert "bytes of source; an experiment has at most 64000" in said["pretrained"]
