"""Files that are wholly old or wholly new, whatever ends the process that writes them."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


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
