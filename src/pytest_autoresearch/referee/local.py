"""The executor that does runs on this machine, with the data, sandbox and device of this machine."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from filelock import FileLock

from pytest_autoresearch.core.device_memory import check_sharing
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.data.cache import cache_folder
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.data.sources import find_held_out, private_folders
from pytest_autoresearch.referee.executor import Isolation, JobSpec, RunProgress, RunResult
from pytest_autoresearch.referee.job import LocalJob, isolation_kind
from pytest_autoresearch.referee.run import Referee
from pytest_autoresearch.referee.sandbox import Sandbox, check_filter, find_sandbox
from pytest_autoresearch.referee.secret import project_secret


@dataclass(frozen=True)
class _Surroundings:
    """What runs find here. `shares_device`: logits come through the GPU's memory. `words` are for the header."""

    sandbox: Sandbox | None
    shares_device: bool
    words: str


class LocalExecutor:
    """Does runs on this machine. In a sandbox, programs see neither the project in `root` nor held-out text."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._surroundings = cache(self._look_around)
        self._secret = cache(partial(project_secret, root / "results"))

    def isolation(self, wanted: str, track: Track) -> Isolation:
        """The isolation of runs on a track, if "auto", "bwrap" or "off" is wanted. UsageError if it is unavailable.

        The first call for a device and a corpus tries it out. On "cuda", the words also say why logits must be copied
        through the host, if they must.
        """
        found = self._surroundings(wanted, track.device, track.corpus)
        return Isolation(isolation_kind(found.sandbox), found.words)

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """Train and score one program with one seed; leaves no process behind.

        Under a budget in seconds the run first waits for its turn on the device; the first call of `on_progress` says
        that the wait is over. A run past the track's limit is timed out; so is one in which pytest-timeout raises
        TimeoutError. OSError if the evidence cannot be written.
        """
        track, folder = spec.track, self._root / spec.evidence
        found = self._surroundings(spec.isolation, track.device, track.corpus)
        data = Prepared.of(spec.data_key, track.vocab_size, track.sequence_length)
        job = LocalJob(spec, data, folder, found.sandbox, found.shares_device, self._secret())
        with self._turn(track):
            on_progress(RunProgress("starting"))
            return Referee(job, on_progress).run()

    def _look_around(self, wanted: str, device: str, corpus: str) -> _Surroundings:
        """Try out the sandbox, system calls, and whether logits can come through the GPU's memory. UsageError."""
        private = [self._root, *private_folders(corpus, self._root)]
        sandbox, words = find_sandbox(wanted, private, partial(find_held_out, corpus))
        wrap = sandbox.wrap if sandbox else list
        if why := check_filter(wrap):
            words += f", system calls not filtered: {why}"
        if device != "cuda":
            return _Surroundings(sandbox, False, words)
        why = check_sharing(wrap)
        return _Surroundings(sandbox, not why, f"{words}, logits copied through the host: {why}" if why else words)

    @staticmethod
    def _turn(track: Track) -> AbstractContextManager[object]:
        """A lock on the device under a budget in seconds: two runs at once would slow each other down."""
        if track.budget.unit != "s":
            return nullcontext()
        return FileLock(cache_folder() / f"{track.device}.lock")
