"""`ideas.md`: a backlog of ideas, one to a line, `- [ ] idea`. Of what an agent does to its copy, ticks come back."""

from pathlib import Path


def open_ideas(text: str) -> list[str]:
    """The ideas that nobody has ticked off, in order."""
    raise NotImplementedError


def bring_ticks(path: Path, theirs: str) -> int:
    """Tick off in the file those ideas that are ticked off in the text of a copy. Returns how many."""
    raise NotImplementedError
