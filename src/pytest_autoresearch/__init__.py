"""Experiments as tests: pytest trains a candidate under a fixed budget and passes only what beats the baseline."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_autoresearch.candidate.run import Run as Run

__all__ = ["Run"]


def __getattr__(name: str) -> object:
    """Import `Run` on first use: it needs torch, and pytest imports this package in every session."""
    if name == "Run":
        from pytest_autoresearch.candidate.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
