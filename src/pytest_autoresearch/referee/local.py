"""The executor that does its runs on this machine, with the data, the sandbox and the device that it finds here."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_autoresearch.core.device_memory import check_sharing
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.referee.executor import Isolation, JobSpec, RunProgress, RunResult
from pytest_autoresearch.referee.job import LocalJob, isolation_kind
from pytest_autoresearch.referee.run import Referee
from pytest_autoresearch.referee.sandbox import Sandbox, find_sandbox

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared


@dataclass(frozen=True)
class _Surroundings:
    """What runs find here: a sandbox or none, whether logits come through the GPU's memory, and the words for it."""

    sandbox: Sandbox | None
    shares_device: bool
    words: str


class LocalExecutor:
    """Does runs on this machine. In a sandbox they see neither the project in `root`, nor the cache, nor `hidden`."""

    def __init__(self, root: Path, hidden: Iterable[Path] = ()) -> None:
        self._root = root
        self._hidden = tuple(hidden)
        self._surroundings: dict[tuple[str, str], _Surroundings] = {}
        self._prepared: dict[str, Prepared] = {}

    def isolation(self, wanted: str, device: str) -> Isolation:
        """What runs get where "auto", "bwrap" or "off" is wanted. UsageError where that is not available.

        Tries it out in the first call with these arguments. The words for "cuda" also say why logits must be copied
        through the host, if they must.
        """
        found = self._look_around(wanted, device)
        return Isolation(isolation_kind(found.sandbox), found.words)

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """Train and score one program with one seed; leaves no process behind.

        Under a budget in seconds the run waits for its turn on the device: `on_progress` is first called when it has
        it. Past the track's limit, or when a TimeoutError is raised in here, the run is timed out. OSError where no
        evidence can be written.
        """
        found = self._look_around(spec.isolation, spec.track.device)
        folder = self._root / spec.evidence
        job = LocalJob(spec, self._data(spec), folder, found.sandbox, found.shares_device)
        with self._turn(spec.track):
            on_progress(RunProgress("starting"))
            return Referee(job, on_progress).run()

    def _look_around(self, wanted: str, device: str) -> _Surroundings:
        """What is found on this machine; looked up once for these arguments."""
        if (wanted, device) not in self._surroundings:
            self._surroundings[wanted, device] = self._try_out(wanted, device)
        return self._surroundings[wanted, device]

    def _try_out(self, wanted: str, device: str) -> _Surroundings:
        from pytest_autoresearch.data.cache import cache_folder

        with suppress(OSError):  # only what exists can be hidden
            cache_folder().mkdir(parents=True, exist_ok=True)
        sandbox, words = find_sandbox(wanted, [self._root, cache_folder(), *self._hidden])
        if device != "cuda":
            return _Surroundings(sandbox, False, words)
        why = check_sharing(sandbox.wrap if sandbox else list)
        return _Surroundings(sandbox, not why, f"{words}, logits copied through the host: {why}" if why else words)

    def _data(self, spec: JobSpec) -> "Prepared":
        """The rows that the spec names; one object for each key, for it holds sealed copies of them."""
        from pytest_autoresearch.data.prepare import Prepared

        if spec.data_key not in self._prepared:
            track = spec.track
            self._prepared[spec.data_key] = Prepared.of(spec.data_key, track.vocab_size, track.sequence_length)
        return self._prepared[spec.data_key]

    @staticmethod
    def _turn(track: Track) -> AbstractContextManager[object]:
        """Under a wall-clock budget runs take turns on the device: two at once would slow each other down."""
        if track.budget.unit != "s":
            return nullcontext()
        from pytest_autoresearch.data.cache import cache_folder

        return FileLock(cache_folder() / f"{track.device}.lock")
