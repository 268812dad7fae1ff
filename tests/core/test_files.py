"""Folders that a program has filled are removed, whatever is in them; new files replace nothing."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import write

from pytest_autoresearch.core.files import create, remove_tree


def bury(folder: Path, depth: int) -> None:
    """A chain of folders, deeper than a path may be long; by a process whose place in it does not matter."""
    code = f"""
import os
for _ in range({depth}):
    os.mkdir("ten-of-ten")
    os.chdir("ten-of-ten")
open("x", "w")
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_a_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    write(tmp_path / "gone/a/b/file", "x")
    os.mkfifo(tmp_path / "gone/a/pipe")
    kept = write(tmp_path / "kept/file", "x")
    (tmp_path / "gone/link").symlink_to(kept.parent)
    (tmp_path / "gone/a/b/link").symlink_to(kept)
    (tmp_path / "gone/a/b/nothing").symlink_to("nowhere")
    (tmp_path / "gone/.hidden").mkdir()
    remove_tree(tmp_path / "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "x"


def test_it_may_be_deeper_than_paths_are_long(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    bury(tmp_path / "gone", 3000)
    remove_tree(tmp_path / "gone")
    assert not list(tmp_path.iterdir())


def test_locked_folders_go_too(tmp_path: Path) -> None:
    write(tmp_path / "gone/a/b/file", "x")
    for path in ("gone/a/b", "gone/a", "gone"):
        (tmp_path / path).chmod(0)
    remove_tree(tmp_path / "gone")
    assert not list(tmp_path.iterdir())


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    kept = write(tmp_path / "kept/file", "x")
    kept.parent.chmod(0o755)
    (tmp_path / "link").symlink_to(kept.parent)
    remove_tree(tmp_path / "link")
    assert kept.exists()
    assert not (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o755
    write(tmp_path / "file", "x")
    remove_tree(tmp_path / "file")
    remove_tree(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_replaces_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Also on a file system without hard links; and no draft stays."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    create(path, "first\n")
    with pytest.raises(FileExistsError) as caught:
        create(path, "second\n")
    assert caught.value.filename == str(path)
    (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        create(tmp_path / "b", "")
    assert path.read_text() == "first\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]
