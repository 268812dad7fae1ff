"""Files that are wholly old or new, whatever ends the process that writes them; and folders that nobody trusts."""

import errno
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

MOST_NAMES, MOST_BYTES, MOST_DEPTH = 20_000, 1 << 29, 50
"""Of a tree that is copied."""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def temporary(path: Path) -> Path:
    """Where a file's next content is written. One name per file: what a kill has left there the next writer uses up."""
    return path.with_name(f".{path.name}.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash at any moment, finds it wholly old or wholly new.

    Call it with a lock held, for one at a time may write a file. OSError names `path`, whatever it was that failed.
    """
    try:
        with temporary(path).open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary(path), path)
        if os.name == "posix":  # the rename itself must survive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            temporary(path).unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder that a program has filled, however deep it is and whatever its modes are, as far as possible.

    Its folders are moved to a place beside it before they are looked into, so that no path is too long and nothing
    recurses. The folder that `path` lies in must be one that no program can write to.
    """
    place = path.with_name(f".{path.name}.going")
    numbers = (f"{os.getpid()}-{number}" for number in count())

    def move(folder: Path) -> None:
        os.chmod(folder, 0o700)
        os.rename(folder, place / next(numbers))

    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            place.mkdir(exist_ok=True)
            move(path)
    while folders := _names(place):
        for name in folders:
            for entry in map((place / name).joinpath, _names(place / name)):
                with suppress(OSError):
                    move(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            try:
                (place / name).rmdir()
            except OSError:
                return  # it will not go; the rest stays with it
    with suppress(OSError):
        place.rmdir()


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree's plain files and folders to a new place: a link in it might lead to what nobody is to see.

    OSError where something cannot be copied, or there is too much of it; what is at the target then is not whole.
    """
    names = size = 0
    todo = [(source, target, 0)]
    while todo:
        folder, here, depth = todo.pop()
        here.mkdir(parents=not depth)
        with os.scandir(folder) as entries:
            for entry in entries:
                names += 1
                plain = entry.is_file(follow_symlinks=False)
                size += max(4096, entry.stat(follow_symlinks=False).st_size) if plain else 4096
                if names > MOST_NAMES or size > MOST_BYTES or depth > MOST_DEPTH:
                    raise OSError(errno.EFBIG, "too large to be copied", str(source))
                if entry.is_dir(follow_symlinks=False):
                    todo.append((Path(entry.path), here / entry.name, depth + 1))
                elif plain:
                    with open(entry.path, "rb", opener=_no_link) as old, open(here / entry.name, "xb") as new:
                        shutil.copyfileobj(old, new)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
