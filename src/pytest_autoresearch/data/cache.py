"""Cache: the user's folder for what is built or fetched once, its locks, and the remembered digests of big files."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_autoresearch.core.files import write_atomically

Progress = Callable[[str, float], None]
"""Called with a stage's name and how much of it is done, 0 to 1. A message is a stage that is done at once."""

BIG = 8 << 20  # bytes; smaller files are hashed again each time, which costs less than looking after them


def silent(stage: str, done: float) -> None:
    """A Progress that shows nothing."""


def cache_folder() -> Path:
    """`$AUTORESEARCH_CACHE`, else the user's cache folder."""
    if named := os.environ.get("AUTORESEARCH_CACHE"):
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pytest-autoresearch")


@contextmanager
def locked(path: Path, progress: Progress, does: str) -> Iterator[None]:
    """Hold a lock of the cache; the system frees it when its holder dies, however that happens.

    `does` says what its holder does, for those who wait.
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
    """sha256 (hex) of a file's bytes; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    """sha256 of files, those of big ones remembered in the cache by path, size and time of change.

    A damaged memory is an empty one, and where the cache cannot be written nothing is remembered.
    """

    def __init__(self) -> None:
        self._path = cache_folder() / "digests.json"
        self._known: dict[str, object] | None = None
        self._new: dict[str, list[int | str]] = {}

    def sha256(self, path: Path) -> str:
        """sha256 (hex) of a file's bytes; OSError when it cannot be read."""
        stat = path.stat()
        if stat.st_size < BIG:
            return sha256_of(path)
        if self._known is None:
            self._known = self._read()
        name = str(path.absolute())
        match self._known.get(name):
            case [stat.st_size, stat.st_mtime_ns, str(digest)]:
                return digest
        digest = sha256_of(path)
        # What changed this very moment may change again without its size or a coarse clock's time telling.
        if stat.st_mtime_ns < time.time_ns() - 2 * 10**9 and path.stat().st_mtime_ns == stat.st_mtime_ns:
            self._new[name] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest

    def save(self) -> None:
        """Remember what was hashed, and forget files that are gone."""
        if not self._new:
            return
        from filelock import FileLock

        with suppress(OSError, NotImplementedError):  # among them a lock that is taken, or unknown to the file system
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_name(".digests.lock"), timeout=0):
                known = {name: entry for name, entry in self._read().items() if os.path.exists(name)}
                write_atomically(self._path, json.dumps(known | self._new, indent=1))

    def _read(self) -> dict[str, object]:
        with suppress(OSError, ValueError, RecursionError):
            if isinstance(known := json.loads(self._path.read_bytes()), dict):
                return known
        return {}
