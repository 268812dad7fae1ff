"""The queue: the experiments that stand in the project without a verdict. Loops share it, and judge nothing twice."""

from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.judging.context import Context


@dataclass(frozen=True)
class Waiting:
    """An experiment without a verdict. `why` is "new", "kept and outrun", or "kept, to be promoted"."""

    name: str
    path: Path
    why: str = "new"


class Claim:
    """The right to judge one experiment. It ends with `release`, or with the process that holds it."""

    def release(self) -> None:
        """Let others judge it."""
        raise NotImplementedError


class Queue:
    """The experiments of a project that wait for a verdict, oldest file first."""

    def __init__(self, context: Context) -> None:
        raise NotImplementedError

    def waiting(self) -> list[Waiting]:
        """Those that nobody judges now. Files that did not change since the last look are not read again."""
        raise NotImplementedError

    def claim(self, waiting: Waiting) -> Claim | None:
        """Claim one for this process; None if another loop has it."""
        raise NotImplementedError
