"""Files that are written where nothing is yet: all of them, or none."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import create


class NewFiles:
    """The files that a command has written, and those that it has left as they are, with what is there.

    `appended` are files that were there and have more lines now.
    """

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.appended: list[Path] = []
        self.left: dict[Path, str] = {}
        self._undo: list[tuple[Path, int | None]] = []  # what was made or, with its size before, appended to

    def add(self, path: Path, text: str) -> bool:
        """Write a file, and the folders above it, unless something is there. Returns whether it was written."""
        self._make_folder(path.parent)
        try:
            create(path, text)
        except FileExistsError:
            self.left[path] = what_is_at(path)
            return False
        self._undo.append((path, None))
        self.written.append(path)
        return True

    def add_lines(self, path: Path, lines: Sequence[str]) -> None:
        """Append those lines that the file lacks, with line ends as it has them; a missing file is written.

        `/results/`, `results/` and `results` are one line. What is no regular file, or is a link, is left.
        """
        if not os.path.lexists(path):
            self.add(path, "".join(f"{line}\n" for line in lines))
            return
        if path.is_symlink() or not path.is_file():
            self.left[path] = what_is_at(path)
            return
        data = path.read_bytes()
        end = b"\r\n" if b"\r\n" in data else b"\n"
        there = {line.strip().strip(b"/") for line in data.splitlines()}
        missing = [line for line in (line.encode() for line in lines) if line.strip(b"/") not in there]
        if all(line.startswith(b"#") for line in missing):
            self.left[path] = what_is_at(path)
            return
        gap = end if data.strip() else b""
        if data and not data.endswith(b"\n"):
            gap += end
        self._undo.append((path, len(data)))
        append(path, gap + b"".join(line + end for line in missing))
        self.appended.append(path)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if os.path.lexists(folder):
            raise UsageError(f"{folder}: must be a folder, and is {what_is_at(folder)}; nothing was written")
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self._undo.append((folder, None))

    def take_back(self) -> None:
        """Remove what was written."""
        for path, size in reversed(self._undo):
            with suppress(OSError):
                if size is not None:
                    os.truncate(path, size)
                elif path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()


def append(path: Path, data: bytes) -> None:
    """Append to a file."""
    with path.open("ab") as file:
        file.write(data)


def what_is_at(path: Path) -> str:
    """What stands at a path: a file, a folder, a link to nothing."""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "no regular file"
    return f"a link to {kind}" if path.is_symlink() else kind


@contextmanager
def new_files() -> Iterator[NewFiles]:
    """A block that writes new files. If it fails, none of them stays. UsageError if one cannot be written."""
    files = NewFiles()
    try:
        yield files
    except OSError as error:
        files.take_back()
        raise UsageError(f"{error.filename}: cannot be written: {error.strerror}; nothing was written") from None
    except BaseException:
        files.take_back()
        raise
