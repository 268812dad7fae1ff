"""Text for people. What others have written is read with a limit, and made safe to show.

What is shown cannot move the cursor, begin a line or look like the tool's.
"""

import errno
import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError

UNSEARCHED = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}", "__pycache__")


def read_source(path: Path, at_most: int, links: bool = True) -> str:
    """The text of a file of source code. UsageError in one line: no regular file, too large, not UTF-8, unreadable.

    It does not wait for a pipe, as a plain `read` would, and never reads more than `at_most` bytes. Without `links`, a
    link is an error, also if the file becomes one meanwhile.
    """
    more = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | more)) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise UsageError(f"{path}: cannot be read: not a regular file")
            data = file.read(at_most + 1) if about.st_size <= at_most else b""
        if (size := max(about.st_size, len(data))) > at_most:
            raise UsageError(f"{path}: {size} bytes of source; at most {at_most} are allowed")
        return data.decode("utf-8")
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise UsageError(f"{path}: a link; write a file") from None
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise UsageError(f"{path}:{line}: not UTF-8 ({byte}); save it as UTF-8") from None
    except ValueError as error:  # a null byte in the path
        raise UsageError(f"{path}: cannot be read: {error}") from None


def escaped(text: str) -> str:
    """The text with an escape such as `\\x1b`, `\\n` or `\\u202e` for every character that does not print.

    Those are control characters, line breaks, lone surrogates, and what is invisible or turns the direction of writing.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_of(path: Path, root: Path) -> str:
    """The name of the experiment in a file: its path below `root` without suffix, `escaped`; `::` divides node ids."""
    return escaped(path.relative_to(root).with_suffix("").as_posix()).replace("::", r":\x3a")


def is_experiment_file(path: Path) -> bool:
    """Whether a file below the experiments folder is an experiment by its name: `.py`, not `_….py`, not conftest.py."""
    return path.suffix == ".py" and path.name != "conftest.py" and path.name[0] != "_"


def is_searched(folder: str) -> bool:
    """Whether pytest searches folders of this name, as the default of its setting norecursedirs says."""
    return not any(fnmatch(folder, pattern) for pattern in UNSEARCHED)


def one_line(text: str) -> str:
    """The text as one line: a space for each stretch of white space, and the rest `escaped`."""
    return escaped(" ".join(text.split()))


def cut(text: str, width: int) -> str:
    """The text in at most so many characters; `…` ends one that was longer."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def fitting(parts: Sequence[str], room: int) -> str:
    """As many of the parts, from the first on, as fit into so many columns."""
    while parts and len(", ".join(parts)) > room:
        parts = parts[:-1]
    return ", ".join(parts)


def counted(number: int, word: str) -> str:
    """`1 verdict`, `2 verdicts`."""
    return f"{number} {word}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """`74 s`, `12 min` from 10 minutes on, `7 h 20 min` from 2 hours on."""
    minutes = round(seconds / 60)
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def quoted(text: str) -> list[str]:
    """The lines of a text behind a mark, `| `, that says that the text is a program's and not the tool's."""
    return [f"| {escaped(line.expandtabs(4))}" for line in text.rstrip().splitlines()]
