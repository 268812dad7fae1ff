"""The account of one loop, `results/<track>/nights/<start>.md`: what was gained, by what, what was tried, what to look
at. It is written anew after each event, so a loop that is killed leaves it, too."""

from pathlib import Path

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.status import Finished, Status


class Night:
    """Collects the events of one loop and writes them."""

    def __init__(self, context: Context, agent: str, started: str) -> None:
        """`agent` is what was given as --agent; `started` the time in UTC, ISO 8601."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """The file."""
        raise NotImplementedError

    def add_verdict(self, verdict: Verdict) -> None:
        """A verdict of this loop; a promoted one has the status "keep"."""
        raise NotImplementedError

    def add_round(self, finished: Finished) -> None:
        """A round has ended."""
        raise NotImplementedError

    def add_trouble(self, line: str) -> None:
        """Something that a person should look at."""
        raise NotImplementedError

    def write(self, status: Status, why_ended: str = "") -> None:
        """Write the file. `why_ended` is "" while the loop goes on."""
        raise NotImplementedError

    def summary(self, status: Status, why_ended: str) -> list[str]:
        """The lines to print at the end: what was gained and by what, what was tried, what to look at."""
        raise NotImplementedError
