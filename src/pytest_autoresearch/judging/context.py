"""The context of a session: project, track, baseline, data and platform, each looked up on first use."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.core.track import Track, digest, fingerprint, require_device, with_options
from pytest_autoresearch.judging.baseline import Baseline
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.programs.experiment import Program
from pytest_autoresearch.programs.history import changed_lines
from pytest_autoresearch.referee.executor import Executor, Isolation

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepared import Prepared


class Context:
    """One project, on the track that the options and this machine select."""

    def __init__(self, project: Project, options: Options, executor: Executor) -> None:
        self.project = project
        self.options = options
        self.executor = executor
        self.ledger = Ledger(project.root, project.experiments, project.baseline)
        self.evidence = self.ledger.evidence

    def fresh(self) -> "Context":
        """A context of the same project and options that looks everything up anew."""
        return Context(self.project, self.options, self.executor)

    @cached_property
    def base_track(self) -> Track:
        """The track as its track.toml defines it."""
        return self.project.choose_track(self.options)

    @cached_property
    def track(self) -> Track:
        """The track with the values of `--ar-budget` and `--ar-seeds`."""
        return with_options(self.base_track, self.options.budget, self.options.seeds)

    @cached_property
    def provisional(self) -> str:
        """Why verdicts of this session promote nothing, or "": the options change the budget, or lower the seeds."""
        if self.track.name != self.base_track.name:
            return f"--ar-budget is not the track's {self.base_track.budget}"
        if self.track.seeds < self.base_track.seeds:
            return f"--ar-seeds is below the track's {self.base_track.seeds}"
        return ""

    @cached_property
    def baseline(self) -> Baseline:
        """The track's baseline on disk."""
        return Baseline(self.track, self.ledger)

    @cached_property
    def baseline_program(self) -> Program:
        """The program to beat, read once: another session may promote meanwhile."""
        return Program(self.baseline.source())

    @cached_property
    def promoted_lines(self) -> list[tuple[str, dict[str, list[str]]]]:
        """For each promotion its experiment and, by top-level name, the lines it added that the baseline still has."""
        promotions = self.baseline.promotions()
        present = changed_lines("", self.baseline_program.source) if promotions else {}

        def kept(changed: Mapping[str, list[str]]) -> dict[str, list[str]]:  # later promotions may have removed some
            return {name: [line for line in lines if line in present.get(name, [])] for name, lines in changed.items()}

        return [(past.experiment, kept(past.changed)) for past in promotions]

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Everything that a score depends on besides program and seed. UsageError if the corpus is not in the cache."""
        return fingerprint(self.track, self.data_key)

    @cached_property
    def platform(self) -> str:
        """The short name of the fingerprint."""
        return digest(self.fingerprint)

    @cached_property
    def data_key(self) -> str:
        """The name of the track's rows in the cache. They may not be there yet."""
        from pytest_autoresearch.data.prepare import data_key

        if self.lacks_corpus:  # collection must not fetch gigabytes
            raise UsageError(f"corpus '{self.track.corpus}' is not in the cache")
        with self._naming_the_key():
            return data_key(self.track.corpus, **self._data_settings())

    @property
    def lacks_corpus(self) -> bool:
        """Whether the track's text is on the hub and has not been fetched."""
        from pytest_autoresearch.data.sources import is_here

        return not is_here(self.track.corpus)

    @cached_property
    def isolation(self) -> Isolation:
        """What separates a program from its score."""
        return self.executor.isolation(self.options.sandbox, self.track)

    def fetch_corpus(self, progress: Callable[[str, float], None]) -> None:
        """Fetch the track's text from the hub."""
        from pytest_autoresearch.data.sources import open_corpus

        require_device(self.track)  # without it, fetching gigabytes would be useless
        with self._naming_the_key():
            open_corpus(self.track.corpus, self.project.root, progress=progress)

    def prepare(self, progress: Callable[[str, float], None]) -> "Prepared":
        """The track's text as rows of tokens, from the cache or made now."""
        from pytest_autoresearch.data.prepare import prepare

        with self._naming_the_key():
            return prepare(self.track.corpus, **self._data_settings(), progress=progress)

    @contextmanager
    def _naming_the_key(self) -> Iterator[None]:
        """Begin an error of the track's text with the file and the key that ask for it."""
        from pytest_autoresearch.data.cache import cache_folder

        try:
            yield
        except UsageError as error:
            if str(error).startswith(str(cache_folder())):
                raise  # the cache is nobody's key
            key = "" if "eval_tokens = " in str(error) else f'data.corpus = "{self.track.corpus}": '
            raise UsageError(f"{self.track.folder / 'track.toml'}: {key}{error}") from None

    def _data_settings(self) -> dict[str, Any]:
        track = self.track
        return {
            "root": self.project.root,
            "vocab_size": track.vocab_size,
            "sequence_length": track.sequence_length,
            "eval_tokens": track.eval_tokens,
        }

    def relative(self, path: Path) -> str:
        """A path relative to the project."""
        return Path(os.path.relpath(path, self.project.root)).as_posix()

    def shorten(self, error: Exception) -> str:
        """An error's line with paths relative to the project."""
        line = str(error)
        if isinstance(error, OSError):
            line = f"{error.filename or self.evidence.folder}: {error.strerror or error}"
        return one_line(line.replace(f"{self.project.root}{os.sep}", ""))
