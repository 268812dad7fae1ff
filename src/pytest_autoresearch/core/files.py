"""Replace or create files in one step; remove folders, whatever a program has put into them."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path


def now(precision: str = "seconds") -> str:
    """The time in UTC, ISO 8601, to the second or another precision of `datetime.isoformat`."""
    return datetime.now(UTC).isoformat(timespec=precision)


def temporary(path: Path) -> Path:
    """The file to which new content is written first. The name is fixed, so a file left by a kill is overwritten."""
    return path.with_name(f".{path.name}.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader finds the old text or the new one, even after a crash.

    Only one process may write a file at a time, so call this with a lock held. An OSError names `path`.
    """
    with _draft(path, text) as draft:
        os.replace(draft, path)


def create(path: Path, text: str) -> None:
    """Create a file, whole or not at all, even after a crash. FileExistsError if there is one: it stays as it is.

    Only one process may call this for a file at a time; others may create it in other ways. An OSError names `path`.
    """
    with _draft(path, text) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.rename(draft, path)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    """The text in a temporary file, to be moved to `path` and then gone from here."""
    draft = temporary(path)
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
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
            draft.unlink()


def remove_tree(path: Path) -> None:
    """Remove as much as possible of a file or folder that a program has left, whatever its depth and permissions.

    `chmod` and `rm` neither recurse nor build long paths, as `shutil.rmtree` does, and follow no links.
    """
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir() and os.name == "posix":
            for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
                subprocess.run([*command, "--", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            shutil.rmtree(path, ignore_errors=True)
