"""`ideas.md`: a backlog of ideas, one to a line, `- [ ] idea`. Of what an agent does to its copy, ticks come back."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.text import read_source
from pytest_autoresearch.judging.evidence import Evidence

MOST_BYTES = 1_000_000
"""The most bytes that a backlog may have."""

_TASK = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+\[([ xX])\]\s+(\S.*)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")


class _Task(NamedTuple):
    """A line of the backlog: its number, the place of the mark between its brackets, and the idea."""

    line: int
    mark: int
    is_open: bool
    idea: str


def open_ideas(text: str) -> list[str]:
    """The ideas that nobody has ticked off, in order."""
    return [task.idea for task in _tasks(text) if task.is_open]


def read_ideas(path: Path) -> str:
    """The text of a backlog, "" if there is no such file. UsageError if it cannot be read as text."""
    return read_source(path, MOST_BYTES) if path.exists() else ""


def bring_ticks(path: Path, theirs: str, given: str = "") -> None:
    """Tick off in the file those ideas that are ticked off in the text of a copy.

    `given` is the copy as it was before: what was ticked off there already is no news, and a person may have opened it
    again since. Where several lines have the same idea, as many are ticked as in the copy. UsageError if the file
    cannot be read or written.
    """
    before = _ticked(given)
    ticked = _ticked(theirs) - before
    if not ticked or not path.exists():
        return
    with Evidence(path.parent).lock(path.name):  # another loop may bring ticks, too
        text = read_ideas(path)  # anew: a person may be editing it
        news = ticked - (_ticked(text) - before)
        if not news:
            return
        lines = text.splitlines(keepends=True)
        for task in _tasks(text):
            if task.is_open and news[task.idea]:
                line = lines[task.line]
                lines[task.line] = f"{line[: task.mark]}x{line[task.mark + 1 :]}"
                news[task.idea] -= 1
        try:
            write_atomically(path.resolve(), "".join(lines))
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _ticked(text: str) -> Counter[str]:
    return Counter(task.idea for task in _tasks(text) if not task.is_open)


def _tasks(text: str) -> Iterator[_Task]:
    """The lines with a box, outside of fenced blocks."""
    fence = ""
    for number, line in enumerate(text.splitlines(keepends=True)):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence and (found := _TASK.match(line)):
            yield _Task(number, found.start(1), found[1] == " ", " ".join(found[2].split()))
