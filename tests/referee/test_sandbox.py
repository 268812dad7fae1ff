"""What a candidate finds in the sandbox, and what is said where there is none."""

import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tiny_project import TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.sources import find_held_out
from pytest_autoresearch.data.stdlib import HELD_OUT
from pytest_autoresearch.referee import local
from pytest_autoresearch.referee import sandbox as sandbox_module
from pytest_autoresearch.referee.sandbox import Sandbox, check_filter, environment, find_sandbox

pytestmark = pytest.mark.usefixtures("recorded")

needs_sandbox = pytest.mark.skipif(find_sandbox("auto", [])[0] is None, reason="bubblewrap does not work here")

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
    print("variables", sorted(os.environ))
    print("processes", sum(name.isdigit() for name in os.listdir("/proc")))
    return nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))
"""


@needs_sandbox
def test_a_candidate_sees_python_and_its_own_folder(
    project: TinyProject, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@host/simple")
    home = Path.home()
    write(project.path / "secret.txt", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        paths = [str(path) for path in (project.path, project.path / "secret.txt", cache, home / ".cache")]
        names = f"PROJECT = {str(project.path)!r}\nPATHS = {paths}\n"
        project.experiment("looks", f"{names}PORT = {server.getsockname()[1]}\n{LOOKS_AROUND}")
        result = project.run("--ar-seeds", "1", "--ar-sandbox", "auto")
    assert "1 seed, sandbox bubblewrap" in result.stdout.str()
    assert re.search(
        r"DISCARDED .*\(\+0\.0000\)", result.stdout.str()
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
    assert "'PATH', " in log
    assert "PIP_INDEX_URL" not in log
    assert "processes 3" in log  # bubblewrap's, the watcher, and the program
    assert {p.name for p in own.iterdir()} == {"program.py", "log.txt", "result.json"}


def test_without_bubblewrap_the_header_says_so(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = project.run("--ar-seeds", "1", "--co", "--ar-sandbox", "auto")
    assert "1 seed, no sandbox: bubblewrap is not installed" in result.stdout.str()
    result = project.run("--ar-seeds", "1", "--ar-sandbox", "bwrap")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --ar-sandbox bwrap: bubblewrap is not installed" in result.stderr.str()


def test_a_sandbox_that_does_not_work_is_not_used(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write(
        tmp_path / "bin/bwrap", "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    result = project.run("--ar-seeds", "1", "--ar-sandbox", "auto")
    result.assert_outcomes(passed=1)
    assert f"no sandbox: {broken} does not work here (bwrap: No permissions" in result.stdout.str()
    assert "no sandbox (--ar-sandbox off)" in project.run("--ar-sandbox", "off").stdout.str()
    with pytest.raises(UsageError, match=r"--ar-sandbox bwrap: .* does not work here"):
        find_sandbox("bwrap", [])


def test_only_known_variables_come_in() -> None:
    """Not what does not look like a secret: a log once had the passwords of an index and of a database in it."""
    known = {
        "PATH": "/opt/openjdk@17/bin:/home/a/tokenizer/bin:/usr/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": "/x",
        "LD_LIBRARY_PATH": "/x:/y",
        "CUDA_VISIBLE_DEVICES": "GPU-1,2",
        "PYTORCH_ALLOC_CONF": "max_split_size_mb:128,expandable_segments:True",
        "TORCH_LOGS": "+dynamo",
        "OMP_NUM_THREADS": "2",
    }
    others = {
        "PIP_INDEX_URL": "https://user:word@host/simple",
        "DATABASE": "postgresql://user:word@host/base",
        "HF_TOKEN": "x",
        "SSH_AUTH_SOCK": "/x",
        "AWS_PROFILE": "x",
        "TORCH_TOKEN": "x",  # a family that is let in
        "PYTHONHTTPSPROXY": "https://user@host",
        "TRITON_CACHE_DSN": "user:word@host",
    }
    assert environment(known | others) == known


def test_variables_do_not_come_in_without_a_sandbox_either(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@host/simple")
    project.experiment("shows", "import os\nprint(sorted(os.environ))\nraise SystemExit('shown')")
    project.run("--ar-seeds", "1")
    log = next(project.path.glob("results/cpu/shows-*/seed-0/log.txt")).read_text()
    assert "'PATH', " in log
    assert "'TMPDIR', " in log
    assert "PIP_INDEX_URL" not in log


@needs_sandbox
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_files_in_memory_have_a_limit(folder: str) -> None:
    """Of both file systems that a candidate can write to; else together they may take all of the memory."""
    sandbox, _ = find_sandbox("bwrap", [])
    assert sandbox is not None
    if not sandbox.sizes:
        pytest.skip("this bubblewrap cannot limit them")
    fill = ["sh", "-c", f"head -c 3000000 /dev/zero > {folder}/x; wc -c < {folder}/x; echo > /dev/x"]
    done = subprocess.run(sandbox.wrap(fill, room=1 << 20), capture_output=True, text=True, check=False)
    assert done.stdout == f"{1 << 20}\n"
    assert "No space left on device" in done.stderr
    assert "/dev/x: Read-only file system" in done.stderr
    size = ["df", "--output=size", "-B1", folder]
    done = subprocess.run(sandbox.wrap(size), capture_output=True, text=True, check=True)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert int(done.stdout.split()[-1]) == pytest.approx(total / 4, rel=0.01)


def test_an_older_bubblewrap_sets_no_limit(tmp_path: Path) -> None:
    for said, sizes in (("    --size BYTES   Set size of next argument", True), ("    --tmpfs DEST", False)):
        bwrap = write(tmp_path / "bwrap", f"#!/bin/sh\necho '{said}'\n")
        bwrap.chmod(0o755)
        assert sandbox_module._knows_sizes(str(bwrap)) is sizes
        assert ("--size" in Sandbox(str(bwrap), (), (), sizes).wrap(["true"])) is sizes
    assert not sandbox_module._knows_sizes(str(tmp_path / "none"))


def test_the_header_says_where_system_calls_are_not_filtered(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    assert ("system calls not filtered" in project.run("--co").stdout.str()) == bool(check_filter())
    broken = "echo Traceback >&2; echo Function not implemented >&2; exit 1"
    assert check_filter(lambda command: ["sh", "-c", broken]) == "Function not implemented"
    monkeypatch.setattr(local, "check_filter", lambda wrap: "Function not implemented")
    words = "no sandbox (--ar-sandbox off), system calls not filtered: Function not implemented"
    assert words in project.run("--co").stdout.str()


@needs_sandbox
def test_the_system_cannot_be_changed_and_its_secrets_not_read() -> None:
    sandbox, _ = find_sandbox("bwrap", [])
    assert sandbox is not None
    script = "for f in /etc/shadow /proc/sys/vm/overcommit_memory; do cat $f; [ -e $f ] && cat $f >> $f; done"
    done = subprocess.run(sandbox.wrap(["sh", "-c", script]), capture_output=True, text=True, check=False)
    assert "root:" not in done.stdout
    assert "Read-only file system" in done.stderr


LOOKS_FOR_MODULES = """
import importlib, os, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        print("imported", name)
    except ModuleNotFoundError:
        pass
for folder in {os.path.dirname(os.__file__), "/usr/lib", "/lib"}:
    for here, _, names in os.walk(folder):
        for path in (f"{here}/{name}" for name in names if name.partition(".")[0] in sys.argv[1:]):
            try:
                print("read", path, len(open(path, "rb").read())) if "-packages" not in here else None
            except OSError:
                pass
import numpy, torch.optim  # these need nothing of it
"""


@needs_sandbox
def test_the_held_out_modules_of_the_standard_library_are_not_there() -> None:
    sandbox, _ = find_sandbox("bwrap", [], partial(find_held_out, "stdlib"))
    assert sandbox is not None
    modules = [*(module for module in HELD_OUT if module != "xmlrpc"), "xmlrpc.client", "xmlrpc.server"]
    command = [sys.executable, "-P", "-c", LOOKS_FOR_MODULES, *modules]
    done = subprocess.run(sandbox.wrap(command), capture_output=True, text=True, check=True)
    assert done.stdout == ""


@needs_sandbox
def test_what_is_hidden_has_no_second_name_and_may_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, hidden, late = tmp_path / "shown", tmp_path / "shown/hidden.txt", tmp_path / "shown/late.txt"
    write(hidden, "secret")
    (tmp_path / "link").symlink_to(shown)
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    sandbox, _ = find_sandbox("bwrap", [], lambda folders: [hidden, late] if shown in folders else [])
    assert sandbox is not None
    write(late, "secret")
    script = f"ls {tmp_path}/link/; cat {shown}/* {tmp_path}/link/*"
    done = subprocess.run(sandbox.wrap(["sh", "-c", script]), capture_output=True, text=True, check=False)
    assert done.stdout == "hidden.txt\nlate.txt\n"
