"""The pytest processes of a loop, and the experiments that they could not judge."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.judging import Judging
from pytest_autoresearch.loop.queue import Claim, Queue, Waiting
from pytest_autoresearch.loop.status import RunStatus

TRIES = 3
"""After so many processes without a verdict an experiment is left alone, until its file is changed."""
SAME_PROBLEM = 3
"""After so many experiments in a row without a verdict, for one reason, nothing more is judged."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its verdict, or None and why. `left_alone`: the experiment is not tried again."""

    name: str
    verdict: Verdict | None
    problem: str = ""
    left_alone: bool = False


class Workers:
    """Starts a pytest process for an experiment, and collects what it leaves."""

    def __init__(self, pytest_options: Sequence[str]) -> None:
        self._options = pytest_options
        self._running: list[tuple[Judging, Waiting, Claim]] = []
        self._tries: dict[tuple[object, ...], int] = {}  # by file, as it was
        self._problem = ""
        self._failed: dict[str, None] = {}  # the experiments in a row that had this problem

    def __len__(self) -> int:
        return len(self._running)

    @property
    def statuses(self) -> list[RunStatus]:
        """What each process does now."""
        return [judging.status for judging, _, _ in self._running]

    @property
    def common_problem(self) -> str:
        """Why nothing can be judged, if several experiments in a row had no verdict for one reason; else ""."""
        if len(self._failed) < SAME_PROBLEM:
            return ""
        return f"{len(self._failed)} experiments in a row could not be judged: {self._problem}"

    def to_try(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """Those that are not left alone; those that had no verdict come last."""
        tries = [(self._tries.get(_file_of(each), 0), each) for each in waiting]
        return [each for tried, each in sorted(tries, key=lambda pair: pair[0]) if tried < TRIES]

    def start(self, context: Context, queue: Queue, waiting: Iterable[Waiting], room: int) -> list[Ended]:
        """Start at most `room` processes. Returns the experiments for which that failed."""
        failed = []
        for each in waiting:
            if room <= 0:
                break
            try:
                if (claim := queue.claim(each)) is None:
                    continue  # another loop was faster
            except (UsageError, OSError) as error:  # no locks
                failed.append(self._without_verdict(each, context.shorten(error)))
                continue
            try:
                self._running.append((Judging(context, each, claim, self._options), each, claim))
                room -= 1
            except (UsageError, OSError) as error:
                claim.release()
                failed.append(self._without_verdict(each, context.shorten(error)))
        return failed

    def ended(self) -> list[Ended]:
        """The processes that have ended since the last look."""
        over = [entry for entry in self._running if entry[0].poll()]
        self._running = [entry for entry in self._running if entry not in over]
        return [self._collect(*entry) for entry in over]

    def kill(self) -> None:
        """End all processes."""
        for judging, _, claim in self._running:
            judging.kill()
            claim.release()
        self._running = []

    def _collect(self, judging: Judging, waiting: Waiting, claim: Claim) -> Ended:
        try:
            verdict, problem = judging.verdict(), ""
            if verdict is None:
                problem = judging.problem()
        except (UsageError, OSError) as error:  # evidence that cannot be read
            verdict, problem = None, str(error)
        finally:
            claim.release()
        if verdict is None:
            return self._without_verdict(waiting, problem)
        self._tries.pop(_file_of(waiting), None)
        self._failed = {}
        return Ended(waiting.name, verdict)

    def _without_verdict(self, waiting: Waiting, problem: str) -> Ended:
        file = _file_of(waiting)
        self._tries[file] = tries = self._tries.get(file, 0) + 1
        problem = one_line(problem) or "pytest ended without a word"
        common = problem.replace(f"{waiting.name}.py", "….py")
        if common != self._problem:
            self._problem, self._failed = common, {}
        self._failed[waiting.name] = None
        return Ended(waiting.name, None, problem, tries >= TRIES)


def _file_of(waiting: Waiting) -> tuple[object, ...]:
    """Identifies a file as it is now: a changed one is another."""
    with suppress(OSError):
        about = waiting.path.stat()
        return waiting.path, about.st_mtime_ns, about.st_size
    return (waiting.path,)
