"""The executor that does its runs on this machine, with the data, the sandbox and the device that it finds here."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

from pytest_autoresearch.core.device_memory import check_sharing
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.data.cache import cache_folder
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.data.sources import private_folders
from pytest_autoresearch.referee.executor import Isolation, JobSpec, RunProgress, RunResult
from pytest_autoresearch.referee.job import LocalJob, isolation_kind
from pytest_autoresearch.referee.run import Referee
from pytest_autoresearch.referee.sandbox import Sandbox, find_sandbox


@dataclass(frozen=True)
class _Surroundings:
    """What runs find here: a sandbox or none, whether logits come through the GPU's memory, and the words for it."""

    sandbox: Sandbox | None
    shares_device: bool
    words: str


class LocalExecutor:
    """Does runs on this machine. In a sandbox they see neither the project in `root` nor any held-out text."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._surroundings = cache(self._look_around)
        self._prepared = cache(Prepared.of)  # it holds sealed copies of the rows, so each key has one object

    def isolation(self, wanted: str, track: Track) -> Isolation:
        """What runs on a track get where "auto", "bwrap" or "off" is wanted. UsageError where that is not available.

        Tries it out in the first call for such a track. The words for "cuda" also say why logits must be copied through
        the host, if they must.
        """
        found = self._surroundings(wanted, track.device, track.corpus)
        return Isolation(isolation_kind(found.sandbox), found.words)

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """Train and score one program with one seed; leaves no process behind.

        Under a budget in seconds the run waits for its turn on the device: `on_progress` is first called when it has
        it. Past the track's limit, or when a TimeoutError is raised in here, the run is timed out. OSError where no
        evidence can be written.
        """
        track, folder = spec.track, self._root / spec.evidence
        found = self._surroundings(spec.isolation, track.device, track.corpus)
        data = self._prepared(spec.data_key, track.vocab_size, track.sequence_length)
        job = LocalJob(spec, data, folder, found.sandbox, found.shares_device)
        with self._turn(track):
            on_progress(RunProgress("starting"))
            return Referee(job, on_progress).run()

    def _look_around(self, wanted: str, device: str, corpus: str) -> _Surroundings:
        """Try out which sandbox, and which way for the logits, runs have on this machine. UsageError."""
        sandbox, words = find_sandbox(wanted, [self._root, *private_folders(corpus, self._root)])
        if device != "cuda":
            return _Surroundings(sandbox, False, words)
        why = check_sharing(sandbox.wrap if sandbox else list)
        return _Surroundings(sandbox, not why, f"{words}, logits copied through the host: {why}" if why else words)

    @staticmethod
    def _turn(track: Track) -> AbstractContextManager[object]:
        """Under a wall-clock budget runs take turns on the device: two at once would slow each other down."""
        if track.budget.unit != "s":
            return nullcontext()
        return FileLock(cache_folder() / f"{track.device}.lock")
