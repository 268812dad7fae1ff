"""The account of one loop, `results/<track>/nights/<start>.md`: what was gained, by what, what was tried, what to look
at. It is written anew after each event, so a loop that is killed leaves it, too."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.account import Account
from pytest_autoresearch.loop.night_page import page
from pytest_autoresearch.loop.night_summary import summary_lines
from pytest_autoresearch.loop.status import Finished, Status


class Night:
    """Collects the events of one loop and writes them."""

    def __init__(self, context: Context, agent: str, started: str) -> None:
        """`agent` is what was given as --agent; `started` the time in UTC, ISO 8601."""
        self._context = context
        self._account = Account(context.track.name, agent, started)
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The file. Its name is certain from the first `write` on."""
        return self._path or next(self._paths())

    def add_verdict(self, verdict: Verdict) -> None:
        """A verdict of this loop; a promoted one has the status "keep"."""
        self._account.add_verdict(verdict)

    def add_round(self, finished: Finished) -> None:
        """A round has ended."""
        self._account.rounds.append(finished)

    def add_trouble(self, line: str) -> None:
        """Something that a person should look at."""
        self._account.troubles.append(line)

    def write(self, status: Status, why_ended: str = "") -> None:
        """Write the file. `why_ended` is "" while the loop goes on. OSError if it cannot be written."""
        if self._path is None:
            self._path = self._reserve()
        self._path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it meanwhile
        write_atomically(self._path, page(self._account, status, why_ended, self._context.options))

    def summary(self, status: Status, why_ended: str) -> list[str]:
        """The lines to print at the end: what was gained and by what, what was tried, what to look at."""
        path = self._context.relative(self._path) if self._path else ""
        return summary_lines(self._account, status, why_ended, path, self._context.options)

    def _reserve(self) -> Path:
        """Make a file that no other loop writes. OSError."""
        for path in self._paths():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.open("x").close()
            except FileExistsError:
                continue
            return path
        raise AssertionError

    def _paths(self) -> Iterator[Path]:
        """`2026-11-24T2230Z.md`, `2026-11-24T2230Z-2.md`, …"""
        folder = self._context.evidence.folder / self._account.track / "nights"
        name = f"{self._account.started[:16].replace(':', '')}Z"
        return (folder / f"{name}{'' if number == 1 else f'-{number}'}.md" for number in count(1))
