"""The seam through which a session reports its progress. The plugin's terminal implements it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from pytest_autoresearch.core.records import Record
from pytest_autoresearch.referee.executor import RunProgress, RunResult

OnProgress = Callable[[RunProgress], None]


class RunMonitor(Protocol):
    """Receives the progress of a session, and watches over its runs."""

    def guard(self, seconds: float) -> AbstractContextManager[None]:
        """A block in which TimeoutError is raised after so many seconds, by pytest-timeout's timer."""

    def run_began(self, label: str) -> AbstractContextManager[OnProgress]:
        """A block in which one run is done. Yields the function that receives its progress."""

    def run_ended(self, label: str, result: RunResult) -> None:
        """The run with this label has a result."""

    def say(self, line: str) -> None:
        """Something to know before the next run."""

    def preparing(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """A block in which data is prepared. Yields the function that receives its progress: (stage, 0 to 1)."""

    def recorded(self, record: Record) -> None:
        """The baseline has been recorded."""
