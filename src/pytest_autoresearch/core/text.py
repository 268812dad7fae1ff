"""Text that others have written, made safe to show: it cannot move the cursor, begin a line or look like the tool's."""

from pathlib import Path


def escaped(text: str) -> str:
    """The text with an escape such as `\\x1b`, `\\n` or `\\u202e` for every character that does not print.

    Those are control characters, line breaks, lone surrogates, and what is invisible or turns the direction of writing.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_of(path: Path, root: Path) -> str:
    """The name of the experiment in a file: its path below `root` without suffix, `escaped`; `::` divides node ids."""
    return escaped(path.relative_to(root).with_suffix("").as_posix()).replace("::", r":\x3a")


def one_line(text: str) -> str:
    """The text as one line: a space for each stretch of white space, and the rest `escaped`."""
    return escaped(" ".join(text.split()))


def quoted(text: str) -> list[str]:
    """The lines of a text behind a mark, `| `, that says that the text is a program's and not the tool's."""
    return [f"| {escaped(line.expandtabs(4))}" for line in text.rstrip().splitlines()]
