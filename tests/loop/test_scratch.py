"""The scratch folder: what an agent finds in it, and what is read of what it leaves there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeExecutor
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project, find_project
from pytest_autoresearch.loop.scratch import FILES, Scratch
from pytest_autoresearch.programs.experiment import SOURCE_BYTES


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    project = TinyProject(tmp_path / "project", monkeypatch)
    project.experiment("given", "WIDTH = 1")
    return project


def context_of(folder: Path, **folders: str) -> Context:
    experiments, baseline = (folder / folders.get(name, name) for name in ("experiments", "baseline"))
    return Context(Project(folder, experiments, baseline), Options(track="cpu"), FakeExecutor(folder, [], {}))


@pytest.fixture
def scratch(project: TinyProject) -> Iterator[Scratch]:
    scratch = Scratch.make(context_of(project.path), {"brief.md": "the brief", "suggestions/a.py": "pass\n"})
    yield scratch
    scratch.remove()


def names(scratch: Scratch) -> dict[str, str]:
    """What is brought, and each file's problem or text."""
    return {each.name: each.problem or each.text for each in scratch.brought()}


# -- what it holds --


def test_an_agent_finds_what_it_needs(project: TinyProject) -> None:
    for name in ("program.md", "AGENTS.md", "ideas.md", "results.tsv", "README.md"):
        write(project.path / name, f"my {name}")
    write(project.path / "experiments/deep/er.py", "x = 1\r\n")
    write(project.path / "experiments/deep/data.txt", "no program")
    write(project.path / "experiments/my-idea.py", "x = 2\n")
    write(project.path / "experiments/__pycache__/x.py", "")
    write(project.path / "experiments/large.py", "#" * (SOURCE_BYTES + 1))
    os.mkfifo(project.path / "experiments/pipe.py")
    (project.path / "experiments/link.py").symlink_to("given.py")
    scratch = Scratch.make(context_of(project.path), {"brief.md": "the brief", "suggestions/a.py": "pass\n"})
    files = {str(path.relative_to(scratch.folder)) for path in scratch.folder.rglob("*") if path.is_file()}
    experiments = {"given.py", "deep/er.py", "my-idea.py", "link.py"}
    assert files == {
        *("baseline/cpu/track.toml", "baseline/cpu/train.py", "pytest.ini", "brief.md", "suggestions/a.py"),
        *("program.md", "AGENTS.md", "ideas.md", "results.tsv"),
        *(f"experiments/{name}" for name in experiments),
    }
    assert set(scratch.before) == experiments
    assert (scratch.folder / "experiments/deep/er.py").read_bytes() == b"x = 1\r\n"
    assert (scratch.folder / "baseline/cpu/train.py").read_text() == BASELINE
    assert (scratch.folder / "ideas.md").read_text() == "my ideas.md"
    assert scratch.folder.stat().st_mode & 0o777 == 0o700
    assert names(scratch) == {}
    scratch.remove()
    assert not scratch.folder.exists()


def test_our_command_works_there_and_the_folders_have_their_usual_names(tmp_path: Path, project: TinyProject) -> None:
    (project.path / "experiments").rename(project.path / "ideas")
    (project.path / "baseline").rename(project.path / "tracks")
    scratch = Scratch.make(context_of(project.path, experiments="ideas", baseline="tracks"), {})
    found, settings = find_project(scratch.folder)
    assert (found.root, settings) == (scratch.folder, {"autoresearch_track": "cpu"})
    assert found.choose_track(Options(track="cpu")).name == "cpu"
    assert set(scratch.before) == {"given.py"}
    scratch.remove()


# -- what comes back --


def test_new_and_changed_files_come_back_oldest_first(scratch: Scratch) -> None:
    write(scratch.folder / "experiments/given.py", "changed\n")
    write(scratch.folder / "experiments/norms/second.py", "two\r\n")
    write(scratch.folder / "experiments/third.py", "")
    write(scratch.folder / "experiments/notes.txt", "not looked at")
    write(scratch.folder / "baseline/cpu/train.py", "not looked at")
    for time, name in enumerate(("given.py", "norms/second.py", "third.py")):
        os.utime(scratch.folder / "experiments" / name, (time, time))
    assert [(each.name, each.text, each.problem) for each in scratch.brought()] == [
        ("given.py", "changed\n", ""),
        ("norms/second.py", "two\r\n", ""),
        ("third.py", "", ""),
    ]
    assert scratch.new_names() == ["norms/second", "third"]


def test_what_was_deleted_is_no_change(scratch: Scratch) -> None:
    (scratch.folder / "experiments/given.py").unlink()
    assert names(scratch) == {}


def test_what_is_no_text_file_is_refused(scratch: Scratch) -> None:
    folder = scratch.folder / "experiments"
    secret = write(scratch.folder / "secret", "a secret")
    (folder / "link.py").symlink_to(secret)
    (folder / "nowhere.py").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.py")
    write(folder / "large.py", "x" * 10_000_000)
    (folder / "latin.py").write_bytes(b"# caf\xe9\n")
    (folder / "given.py").unlink()
    (folder / "given.py").symlink_to(secret)
    found = names(scratch)
    assert found == {
        "link.py": "a link; write a file",
        "nowhere.py": "a link; write a file",
        "given.py": "a link; write a file",
        "pipe.py": "cannot be read: not a regular file",
        "large.py": f"10000000 bytes of source; at most {SOURCE_BYTES} are allowed",
        "latin.py": "latin.py:1: not UTF-8 (byte 0xe9); save it as UTF-8",
    }


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(scratch: Scratch) -> None:
    write(scratch.folder / "experiments/locked.py", "x").chmod(0)
    assert names(scratch) == {"locked.py": "cannot be read: Permission denied"}


def test_a_file_that_goes_while_it_is_read_is_refused(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(scratch.folder / "experiments/gone.py", "x")
    monkeypatch.setattr("pytest_autoresearch.loop.scratch._time", lambda each: (each == path and path.unlink()) or 0)
    assert names(scratch) == {"gone.py": "cannot be read: No such file or directory"}


def test_a_file_that_becomes_a_link_while_it_is_read_is_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch.folder / "idea.txt").symlink_to(write(scratch.folder / "secret", "a secret"))
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)  # it was none when this was asked
    assert scratch.read("idea.txt") == ""


def test_what_a_person_has_put_in_place_of_a_page_stops_nobody(project: TinyProject) -> None:
    os.mkfifo(project.path / "program.md")
    (project.path / "AGENTS.md").mkdir()
    with (project.path / "ideas.md").open("w") as file:
        file.truncate(1 << 30)
    scratch = Scratch.make(context_of(project.path), {})
    assert not [name for name in ("program.md", "AGENTS.md", "ideas.md") if (scratch.folder / name).exists()]
    scratch.remove()


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        ("my-idea.py", "my-idea.py", "only letters, digits and _"),
        ("2nd.py", "2nd.py", "begin with a letter"),
        ("_private.py", "_private.py", "begin with a letter"),
        (".hidden.py", ".hidden.py", "begin with a letter"),
        (".py", ".py", "begin with a letter"),
        ("größe.py", "größe.py", "only letters, digits and _"),
        ("new\nline.py", r"new\nline.py", "only letters, digits and _"),
        (os.fsdecode(b"\xff.py"), r"\udcff.py", "only letters, digits and _"),
        ("x.py/y.py", "x.py/y.py", "only letters, digits and _"),
        ("a b/y.py", "a b/y.py", "only letters, digits and _"),
        ("conftest.py", "conftest.py", "belongs to pytest"),
        ("a/ConfTest.py", "a/ConfTest.py", "belongs to pytest"),
        ("build/y.py", "build/y.py", "pytest does not search folders of this name"),
        (f"{'n' * 101}.py", f"{'n' * 101}.py", "at most 100 characters"),
    ],
)
def test_names_must_be_plain(scratch: Scratch, name: str, shown: str, reason: str) -> None:
    try:
        write(scratch.folder / "experiments" / name, "x = 1\n")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system refuses the name itself")
    (brought,) = scratch.brought()
    assert brought.name == shown
    assert reason in brought.problem
    assert brought.text == "x = 1\n"
    assert scratch.new_names() == []


def test_caches_and_hidden_folders_are_left_out(scratch: Scratch) -> None:
    for folder in ("__pycache__", ".venv/lib", "_old"):
        write(scratch.folder / "experiments" / folder / "x.py", "x")
    assert names(scratch) == {}


def test_links_to_folders_are_not_followed(scratch: Scratch, project: TinyProject) -> None:
    (scratch.folder / "experiments/others").symlink_to(write(project.path / "outside/x.py", "x").parent)
    assert names(scratch) == {}


def test_at_most_twenty_files_are_read(scratch: Scratch) -> None:
    for number in range(50):
        write(scratch.folder / f"experiments/idea{number}.py", "x")
    found = scratch.brought()
    assert [each.problem for each in found] == [""] * FILES + [f"at most {FILES} files come back"]


def test_deep_folders_are_left_alone(scratch: Scratch) -> None:
    code = "import os\nfor _ in range(30):\n    os.mkdir('deep')\n    os.chdir('deep')\n    open('x.py', 'w').close()"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=scratch.folder / "experiments", check=True)
    assert set(names(scratch)) == {f"{'deep/' * depth}x.py" for depth in range(1, 5)}
    scratch.remove()
    assert not scratch.folder.exists()


def test_a_folder_that_is_gone_or_another_brings_nothing(scratch: Scratch, project: TinyProject) -> None:
    (scratch.folder / "experiments").rename(scratch.folder / "moved")
    assert names(scratch) == {}
    (scratch.folder / "experiments").symlink_to(write(project.path / "outside/x.py", "x").parent)
    assert names(scratch) == {}
    scratch.remove()
    project.experiment("other", "WIDTH = 2")
    scratch.folder.symlink_to(project.path)
    assert names(scratch) == {}
    assert scratch.read("pytest.ini") == ""
    scratch.remove()
    assert not scratch.folder.is_symlink()
    assert (project.path / "experiments/given.py").exists()


def test_other_files_are_read_if_they_are_text(scratch: Scratch) -> None:
    write(scratch.folder / "idea.txt", "an idea")
    assert scratch.read("idea.txt") == "an idea"
    assert scratch.read("nothing") == ""
    (scratch.folder / "link").symlink_to("idea.txt")
    os.mkfifo(scratch.folder / "pipe")
    assert scratch.read("link") == scratch.read("pipe") == scratch.read("experiments") == ""


def test_paths_of_scratch_folders_are_known() -> None:
    assert Scratch.is_path(Scratch.new_path())
    assert not any(map(Scratch.is_path, (Path("/"), Path("/home/me"), Path("autoresearch-0"), Path())))
