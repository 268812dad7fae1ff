"""The errors of which users read the message."""


class UsageError(Exception):
    """Something a user wrote cannot be used: one line that names the file, what was found and what is allowed.

    `detail` may hold the line of source and, below its fault, a caret.
    """

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail


class NoExperiment(UsageError):
    """A file under `experiments/` is not an experiment."""


class NotJudged(Exception):
    """An experiment is not judged now, and why. `unchanged`: its program equals the baseline."""

    def __init__(self, reason: str, unchanged: bool = False) -> None:
        super().__init__(reason)
        self.unchanged = unchanged


class LeftUnjudged(NotJudged):
    """An experiment that no session has judged yet is left to the next one: this one has stopped, and says why."""

    def __init__(self, stopped: str) -> None:
        super().__init__(f"left unjudged: {stopped}")
        self.stopped = stopped
