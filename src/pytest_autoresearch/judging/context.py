"""Where a session takes place: track, baseline, data, sandbox and device, each looked up when it is first needed."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import Track, fingerprint, require_device, with_options
from pytest_autoresearch.judging.baseline import Baseline, Record
from pytest_autoresearch.judging.judge import Spectators
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.referee.executor import Isolation
from pytest_autoresearch.referee.local import LocalExecutor

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared


class Setting:
    """One project on one track of its baselines, as the options and this machine have it."""

    def __init__(self, project: Project, options: Options) -> None:
        self.project = project
        self.options = options
        self.ledger = Ledger(project.root)
        self.problem: str | None = None
        """Why nothing can be judged here, once that is known."""

    @cached_property
    def track(self) -> Track:
        return with_options(self.project.choose_track(self.options), self.options.budget, self.options.seeds)

    @cached_property
    def provisional(self) -> str:
        """Why verdicts of this session promote nothing: they ask less, or something else, than the track does."""
        asked = self.project.choose_track(self.options)
        if str(asked.budget) != str(self.track.budget):
            return f"--ar-budget is not the track's {asked.budget}"
        if self.track.seeds < asked.seeds:
            return f"--ar-seeds is below the track's {asked.seeds}"
        return ""

    @cached_property
    def baseline(self) -> Baseline:
        return Baseline(self.track, self.ledger)

    @cached_property
    def baseline_source(self) -> str:
        return self.baseline.source()

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        from pytest_autoresearch.data.prepare import data_key

        if self.lacks_corpus:  # which is no reason to fetch gigabytes where nobody sees it
            raise UsageError(self.problem or f"corpus '{self.track.corpus}' is not in the cache")
        return fingerprint(self.track, data_key(self.track.corpus, **self._data_settings()))

    @property
    def lacks_corpus(self) -> bool:
        """Whether the track's text lies on the hub and has not been fetched."""
        from pytest_autoresearch.data.corpus import is_here

        return not is_here(self.track.corpus)

    def _data_settings(self) -> dict[str, Any]:
        track = self.track
        return {
            "root": self.project.root,
            "vocab_size": track.vocab_size,
            "sequence_length": track.sequence_length,
            "eval_tokens": track.eval_tokens,
        }

    @cached_property
    def executor(self) -> LocalExecutor:
        return LocalExecutor(self.project.root, [self.project.root / self.track.corpus])

    @cached_property
    def isolation(self) -> Isolation:
        require_device(self.track)
        return self.executor.isolation(self.options.sandbox, self.track.device)

    def prepare(self, progress: Callable[[str, float], None]) -> "Prepared":
        """The track's text as rows of tokens, from the cache or made now."""
        from pytest_autoresearch.data.prepare import prepare

        return prepare(self.track.corpus, **self._data_settings(), progress=progress)

    def stored_record(self) -> Record:
        """The baseline's record on this platform as it stands on disk; it may lack seeds, or all of them."""
        record = self.baseline.record(self.fingerprint, self.baseline_source)
        return replace(record, scores=record.scores[: self.track.seeds])

    @cached_property
    def record(self) -> Record:
        """The record that this session judges by: it stays the same when another session promotes meanwhile."""
        return self.stored_record()

    def fetch_corpus(self, spectators: Spectators) -> None:
        """Fetch the track's text where it lies on the hub. UsageError says why it cannot be done; it is tried once."""
        from pytest_autoresearch.data.corpus import open_corpus

        if self.problem:
            raise UsageError(self.problem)
        if not self.lacks_corpus:
            return
        try:
            require_device(self.track)  # before gigabytes are fetched for nothing
            with spectators.preparing() as progress:
                open_corpus(self.track.corpus, self.project.root, progress=progress)
        except UsageError as error:
            self.problem = self.shorten(error)
            raise UsageError(self.problem) from None

    def relative(self, path: Path) -> str:
        """A path as seen from the project."""
        return Path(os.path.relpath(path, self.project.root)).as_posix()

    def shorten(self, error: UsageError) -> str:
        """An error's line with paths as seen from the project."""
        return str(error).replace(f"{self.project.root}{os.sep}", "")
