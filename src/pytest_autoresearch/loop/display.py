"""What a loop shows: a line for each event, and in a terminal a few lines below them that say what goes on."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TextIO

from tqdm.utils import disp_len

from pytest_autoresearch.core.text import escaped
from pytest_autoresearch.loop.status import Status
from pytest_autoresearch.loop.status_lines import status_lines

INTERVAL = 0.2
"""Seconds between two redraws."""
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN}
"""Errors after which a stream may take text again: a log on a full disk must not end the loop."""
UP, ERASE_REST_OF_LINE, ERASE_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"


class Display(Protocol):
    """Receives what a loop has to say."""

    def event(self, line: str) -> None:
        """Print one line that stays, with the time."""

    def show(self, status: Status) -> None:
        """Show what goes on now."""

    def close(self) -> None:
        """Nothing more goes on."""


class PipeDisplay:
    """A line for each event, and nothing else. OSError if the reader of a pipe, or the terminal, has gone away."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, line: str) -> None:
        """Print one line that stays, with the time."""
        self._write(f"{_dated(line)}\n")

    def show(self, status: Status) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is left to do."""

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except OSError as error:
            if error.errno not in PASSING:
                raise


class TerminalDisplay(PipeDisplay):
    """The same events, which scroll above a block of lines that is drawn again in place.

    Between two calls the cursor stands at the end of the block. Each call writes one string, in which old lines are
    overwritten before what is left of them is erased, so nothing flickers.
    """

    def __init__(
        self,
        stream: TextIO,
        size: Callable[[], os.terminal_size],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._size = size
        self._clock = clock
        self._status: Status | None = None
        self._drawn: list[str] = []
        self._drawn_at = float("-inf")

    def event(self, line: str) -> None:
        """Print one line that stays, with the time, above the block."""
        self._draw(self._size(), f"{ERASE_BELOW}{_dated(line)}\r\n")

    def show(self, status: Status) -> None:
        """Draw the block again if it has changed, but not so often that it costs anything."""
        self._status = status
        if self._clock() - self._drawn_at < INTERVAL:
            return
        size = self._size()
        if self._lines(size) != self._drawn:
            self._draw(size)

    def close(self) -> None:
        """Erase the block. Later events are plain lines."""
        self._status = None
        if self._drawn:
            self._draw(self._size(), ERASE_BELOW)

    def _draw(self, size: os.terminal_size, above: str = "") -> None:
        lines = self._lines(size)
        block = "\r\n".join(line + ERASE_REST_OF_LINE for line in lines)
        block = f"{NO_WRAP}{block}{ERASE_BELOW}{WRAP}" * bool(lines)
        self._write(self._to_the_top(size) + above + block)
        self._drawn, self._drawn_at = lines, self._clock()

    def _lines(self, size: os.terminal_size) -> list[str]:
        """The block's lines. The last column stays empty, because terminals differ in what they do after it."""
        lines = status_lines(self._status, max(size.columns - 1, 1)) if self._status else []
        return lines[-max(size.lines - 1, 1) :]

    def _to_the_top(self, size: os.terminal_size) -> str:
        """Move the cursor to the first column of the block that was drawn.

        Where a window has become narrower, most terminals have broken each line that no longer fits into several.
        """
        rows = sum(-(-max(disp_len(line), 1) // size.columns) for line in self._drawn)
        return "\r" * bool(self._drawn) + UP.format(rows - 1) * (rows > 1)


def open_display(stream: TextIO) -> Display:
    """The display for a stream: with live lines if it is a terminal that can move the cursor."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return PipeDisplay(stream)
    return TerminalDisplay(stream, lambda: terminal_size(stream))


def terminal_size(stream: TextIO) -> os.terminal_size:
    """The columns and lines of a terminal now; 80 and 24 where it does not know them."""
    size = os.terminal_size((0, 0))
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(stream.fileno())
    return os.terminal_size((size.columns or 80, size.lines or 24))


def _dated(line: str) -> str:
    return f"{time.strftime('%H:%M')} {escaped(line)}"
