"""A job with everything that it needs on this machine."""

from dataclasses import dataclass, field
from pathlib import Path

from pytest_autoresearch.core.track import Track
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.referee.executor import JobSpec
from pytest_autoresearch.referee.sandbox import Sandbox


@dataclass(frozen=True)
class LocalJob:
    """A run to do here; its evidence goes into `folder`. With `shares_device` logits come through the GPU's memory.

    The order of scoring follows from `secret`, which the program cannot see.
    """

    spec: JobSpec
    data: Prepared
    folder: Path
    sandbox: Sandbox | None = None
    shares_device: bool = False
    secret: bytes = field(default=b"", repr=False)

    @property
    def track(self) -> Track:
        return self.spec.track

    @property
    def isolation(self) -> str:
        """What separates the program from its score: "sandbox" or "process"."""
        return isolation_kind(self.sandbox)


def isolation_kind(sandbox: Sandbox | None) -> str:
    """The word for the isolation in the evidence and the ledger."""
    return "sandbox" if sandbox else "process"
