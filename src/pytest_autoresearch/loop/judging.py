"""One pytest process that judges one experiment; what it does now is read from a file that it keeps."""

from collections.abc import Sequence

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.queue import Claim, Waiting
from pytest_autoresearch.loop.status import RunStatus


class Judging:
    """A pytest process. It ends when the loop ends, whatever ends the loop."""

    def __init__(self, context: Context, waiting: Waiting, claim: Claim, options: Sequence[str]) -> None:
        """Start pytest on the experiment with these options."""
        raise NotImplementedError

    @property
    def status(self) -> RunStatus:
        """What it does now."""
        raise NotImplementedError

    def poll(self) -> bool:
        """Whether it has ended."""
        raise NotImplementedError

    def verdict(self) -> Verdict | None:
        """The verdict that it reached, with its status in the ledger; None if it ended without one."""
        raise NotImplementedError

    def problem(self) -> str:
        """Why there is no verdict, in one line."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it and its runs. What it judged stays judged."""
        raise NotImplementedError
