"""Cache: the folder for files that are fetched or built once, its locks, and remembered digests of files."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.data.progress import Progress

BIG = 8 << 20  # bytes; hashing a smaller file costs less than remembering its digest


def cache_folder() -> Path:
    """`$AUTORESEARCH_CACHE`, else the user's cache folder."""
    if named := os.environ.get("AUTORESEARCH_CACHE"):
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pytest-autoresearch")


@contextmanager
def locked(path: Path, progress: Progress, does: str) -> Iterator[None]:
    """Hold the lock file `path`. The system releases it when its holder ends, even if the holder is killed.

    `does` says what the holder does; it is shown to those who wait.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process that {does}", 0.0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes. OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    """sha256 of files, to tell whether a file has changed. A big file is read again only if its size or mtime changed.

    The digests of big files are kept in the cache, by path; `save` writes them. If they are damaged, or cannot be
    written, files are read again.
    """

    def __init__(self) -> None:
        self._path = cache_folder() / "digests.json"
        self._known: dict[str, object] | None = None
        self._new: dict[str, list[int | str]] = {}

    def sha256(self, path: Path) -> str:
        """sha256 (hex) of a file's bytes. OSError when it cannot be read."""
        stat = path.stat()
        if stat.st_size < BIG:
            return sha256_of(path)
        if self._known is None:
            self._known = self._read()
        name = str(path.absolute())
        match self._new.get(name) or self._known.get(name):
            case [stat.st_size, stat.st_mtime_ns, str(digest)]:
                return digest
        digest = sha256_of(path)
        # A file that has just changed may change again within one tick of a coarse clock, and keep size and mtime.
        if stat.st_mtime_ns < time.time_ns() - 2 * 10**9 and path.stat().st_mtime_ns == stat.st_mtime_ns:
            self._new[name] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest

    def save(self) -> None:
        """Keep the new digests in the cache, and drop those of files that no longer exist."""
        if not self._new:
            return
        from filelock import FileLock

        with suppress(OSError, NotImplementedError):  # another process saves, or the file system has no locks
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_name(".digests.lock"), timeout=0):
                known = {name: entry for name, entry in self._read().items() if os.path.exists(name)}
                write_atomically(self._path, json.dumps(known | self._new, indent=1))

    def _read(self) -> dict[str, object]:
        with suppress(OSError, ValueError, RecursionError):
            if isinstance(known := json.loads(self._path.read_bytes()), dict):
                return known
        return {}
