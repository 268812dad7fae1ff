"""Preflight: why an experiment is not worth a run, as far as its source tells, before anything trains."""

from collections.abc import Iterable
from pathlib import Path

from pytest_autoresearch.judging.context import Context


def check(context: Context, path: Path, root: Path, waiting: Iterable[Path] = ()) -> str:
    """Why the experiment in `path`, below `root`, would be refused, in words for its author; "" if it is worth a run.

    It cannot be read or parsed, it splices to nothing, it is for another track, it breaks a rule that can be read off
    its source, its program equals one that was judged, or one of those `waiting`.
    """
    raise NotImplementedError
