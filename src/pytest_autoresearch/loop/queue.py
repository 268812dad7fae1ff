"""The queue: the experiments that stand in the project without a verdict. Loops share it, and judge nothing twice."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import stamp
from pytest_autoresearch.core.text import is_experiment_file, is_searched, name_of
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.standing import NEW, OUTRUN, TO_PROMOTE, standing_of

ORDER = (TO_PROMOTE, NEW, OUTRUN)
"""What comes first. A promotion costs seconds, and then all others meet the better baseline."""
OFFERED = 3
"""How often a file is offered while neither it nor the baseline changes, so that a fault does not repeat for ever."""

Stamp = tuple[int, int, int]
"""What `core.files.stamp` returns."""


@dataclass(frozen=True)
class Waiting:
    """An experiment without a verdict. `why` is "new", "kept and outrun", or "kept, to be promoted"."""

    name: str
    path: Path
    why: str = "new"


@dataclass(frozen=True)
class _Seen:
    """What was found of a file when it had this stamp, and the ledger that one."""

    file: Stamp
    ledger: Stamp | None
    why: str


class Queue:
    """The experiments of a project that wait for a verdict, the oldest file first.

    They are those that `pytest experiments` would judge, promote, or give their line in the ledger, but for sweeps. So
    the context's options must be those that pytest is started with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._baseline: list[Stamp | None] | None = None
        self._seen: dict[Path, _Seen] = {}
        self._offered: Counter[tuple[Path, Stamp]] = Counter()

    def waiting(self) -> list[Waiting]:
        """Those that nobody judges now. Files that did not change since the last look are not read again.

        UsageError if track or baseline cannot be read.
        """
        self._follow_baseline()
        ledger = stamp(self._context.ledger.path)
        root = self._context.project.experiments
        seen: dict[Path, _Seen] = {}
        found: list[tuple[int, int, Waiting]] = []
        for path, now in _files(root):
            known = self._seen.get(path)
            if not known or known.file != now or (known.why and known.ledger != ledger):
                known = _Seen(now, ledger, standing_of(self._context, path).why)
            seen[path] = known
            if known.why and self._offered[path, now] < OFFERED:
                found.append((ORDER.index(known.why), now[0], Waiting(name_of(path, root), path, known.why)))
        self._seen = seen
        found.sort(key=lambda each: (each[0], each[1], each[2].name))
        return [waiting for *_, waiting in found if not self._is_claimed(waiting)]

    def claim(self, waiting: Waiting) -> FileLock | None:
        """The right to judge one: a lock, held until it is released or this process ends.

        None if another loop has it, or has judged it meanwhile, or if the file is gone. UsageError if there can be no
        locks.
        """
        try:
            lock = self._lock(waiting)
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except OSError as error:
            raise UsageError(self._context.shorten(error)) from None
        path, now = waiting.path, stamp(waiting.path)
        self._seen.pop(path, None)
        self._follow_baseline()
        if now is None or not standing_of(self._context, path).why:
            lock.release()
            return None
        self._offered[path, now] += 1
        return lock

    def _is_claimed(self, waiting: Waiting) -> bool:
        try:
            with self._lock(waiting).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # `claim` says why there can be no locks

    def _lock(self, waiting: Waiting) -> FileLock:
        return self._context.evidence.lock(f"claim {self._context.track.name} {waiting.name}")

    def _follow_baseline(self) -> None:
        """Take another context if the baseline, its record or the track has changed."""
        folder = self._context.track.folder
        names = ("track.toml", "train.py", "baseline.json", "promotion.json")
        if (stamps := [stamp(folder / name) for name in names]) != self._baseline:
            self._context, self._baseline = self._context.fresh(), stamps
            self._seen.clear()
            self._offered.clear()


def _files(folder: Path) -> Iterator[tuple[Path, Stamp]]:
    """The experiments below a folder. It does not search folders that are links."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if is_searched(entry.name):
                yield from _files(path)
        elif is_experiment_file(path) and (found := stamp(path)) and entry.is_file():
            yield path, found
