"""Replace files in one step; remove folders, whatever a program has put into them."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def temporary(path: Path) -> Path:
    """The file to which new content is written first. The name is fixed, so a file left by a kill is overwritten."""
    return path.with_name(f".{path.name}.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader finds the old text or the new one, even after a crash.

    Only one process may write a file at a time, so call this with a lock held. An OSError names `path`.
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
    """Remove as much as possible of a folder that a program has filled, whatever its depth and permissions.

    Each folder is moved to a place beside `path` before it is read. So no path becomes too long, and no recursion is
    needed. Programs must not be able to write to the parent folder of `path`.
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
                return  # it holds something that cannot be removed
    with suppress(OSError):
        place.rmdir()


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []
