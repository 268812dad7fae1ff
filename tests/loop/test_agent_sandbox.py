"""What an agent can reach in its sandbox."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.loop.agent_sandbox import wrap


def works() -> bool:
    """Whether bubblewrap works here."""
    try:
        wrap(["true"], Path(tempfile.gettempdir()), ())
    except UsageError:
        return False
    return True


needs_bubblewrap = pytest.mark.skipif(not works(), reason="bubblewrap does not work here")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a home, a project and a scratch folder. It is not below /tmp, which is hidden as a whole."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        place = Path(folder).resolve()
        for name in ("home/.ssh", "home/.agent", "project/.git/hooks", "scratch"):
            (place / name).mkdir(parents=True)
        for name in ("home/.bashrc", "home/.ssh/id", "project/train.py"):
            (place / name).write_text("text")
        monkeypatch.setenv("HOME", str(place / "home"))
        yield place


def said(place: Path, script: str, folder: Path | None = None, writable: tuple[str, ...] = ()) -> str:
    """What a script prints in the sandbox."""
    command = wrap(["sh", "-c", script], folder or place / "scratch", writable)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL).stdout


@needs_bubblewrap
def test_an_agent_writes_to_its_folder_and_its_own_home_alone(place: Path) -> None:
    paths = (
        *("home/.bashrc", "home/.ssh/authorized_keys", "home/.agent/state", "home/.none/x"),
        *("project/train.py", "project/new.py", "project/.git/hooks/pre-commit", "scratch/x"),
    )
    tries = "\n".join(f"(echo x >> {place}/{path}) 2> /dev/null && echo {path}" for path in paths)
    written = said(place, f"{tries}\nln {place}/project/train.py hard || echo x > y", writable=(".agent", ".none"))
    assert written.split() == ["home/.agent/state", "scratch/x"]
    assert (place / "home/.bashrc").read_text() == (place / "project/train.py").read_text() == "text"
    assert [path.name for path in (place / "home/.ssh").iterdir()] == ["id"]
    assert sorted(path.name for path in (place / "scratch").iterdir()) == ["x", "y"]
    assert not (place / "home/.none").exists()


@needs_bubblewrap
def test_the_temporary_folder_is_its_own_but_for_the_scratch_folder(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, tempfile.NamedTemporaryFile(dir="/tmp") as other:
        scratch = Path(folder)
        words = said(place, f"cat {other.name}; echo $TMPDIR; pwd; echo x > file; echo x > /tmp/mine; ls /tmp", scratch)
        assert words.split() == ["/tmp", str(scratch), "mine", scratch.name]
        assert [path.name for path in scratch.iterdir()] == ["file"]
    assert not Path("/tmp/mine").exists()


@needs_bubblewrap
def test_it_sees_no_other_process_no_terminal_no_key_and_no_service(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(place / "home/service"))
        service.listen()
        script = f"""
            kill -0 {os.getpid()} 2> /dev/null && echo process
            ls {place}/home/.ssh; find /run -type s
            cat /etc/shadow; test -S {place}/home/service && echo socket; echo $SSH_AUTH_SOCK
            (echo x > /dev/tty) 2> /dev/null && echo terminal
            cat {place}/home/.bashrc
        """
        assert said(place, script).split() == ["text"]


@needs_bubblewrap
def test_the_network_stays(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"exec 3<> /dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo connected"
        assert said(place, f"bash -c '{script}'") == "connected\n"


def test_without_bubblewrap_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^--agent-sandbox: bubblewrap is not installed$"):
        wrap(["true"], tmp_path, ())
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(UsageError, match=r"^--agent-sandbox: .*bwrap does not work here \(no namespaces\)$"):
        wrap(["true"], tmp_path, ())
