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
from pytest_autoresearch.referee.sandbox import Sandbox, find_sandbox

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
