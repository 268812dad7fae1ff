"""What comes with the package for projects to begin with: tracks, an experiment, pages for agents."""

from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import Track, read_track

PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """A file or folder that comes with the package, such as `baseline/cpu`. UsageError if it is not there.

    An installed package has copies in `shipped/`, see setup.py. For an editable install the repository has them.
    """
    for folder in (PACKAGE / "shipped", PACKAGE.parents[1]):
        if (folder / "baseline/cpu/track.toml").is_file() and (folder / name).exists():
            return folder / name
    raise UsageError(f"{PACKAGE}: the package lacks its copy of {name}; install it again")


def shipped_text(name: str) -> str:
    """The text of a shipped file."""
    return shipped(name).read_text(encoding="utf-8")


def shipped_track(name: str) -> Track:
    """A shipped track: `cpu` or `cuda`."""
    return read_track(shipped(f"baseline/{name}"))
