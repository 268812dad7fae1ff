"""What a loop shows: a line for each event, and in a terminal a few lines below them that say what goes on."""

from typing import Protocol, TextIO

from pytest_autoresearch.loop.status import Status


class Display(Protocol):
    """Receives what a loop has to say."""

    def event(self, line: str) -> None:
        """Print one line that stays, with the time."""

    def show(self, status: Status) -> None:
        """Show what goes on now."""

    def close(self) -> None:
        """Nothing more goes on."""


def open_display(stream: TextIO) -> Display:
    """The display for a stream: with live lines if it is a terminal."""
    raise NotImplementedError
