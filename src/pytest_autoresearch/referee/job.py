"""A run to do on this machine: the plain values of its spec, and what the executor has found for it here."""

from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.track import Track
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.referee.executor import JobSpec
from pytest_autoresearch.referee.sandbox import Sandbox


@dataclass(frozen=True)
class LocalJob:
    """A run to do, with what it needs on this machine. With `shares_device` logits come through the GPU's memory."""

    spec: JobSpec
    data: Prepared
    folder: Path
    sandbox: Sandbox | None = None
    shares_device: bool = False

    @property
    def track(self) -> Track:
        return self.spec.track


def isolation_kind(sandbox: Sandbox | None) -> str:
    """What is between a program and its score: "sandbox" or "process"."""
    return "sandbox" if sandbox else "process"
