"""The file of an experiment that has a verdict."""

from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import name_of, read_source
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import SOURCE_BYTES
from pytest_autoresearch.programs.statements import unix


def file_as_judged(context: Context, verdict: Verdict) -> Path | None:
    """The file of an experiment, if it still has the text that was judged; None if it was changed or removed."""
    root = context.project.experiments
    path = root / f"{verdict.experiment}.py"
    if not path.is_file():  # the name of a verdict is made safe to show
        path = next((each for each in root.rglob("*.py") if name_of(each, root) == verdict.experiment), path)
    try:
        text = read_source(path, SOURCE_BYTES)
    except UsageError:
        return None
    return path if verdict.experiment_sha in (sha256(unix(text)), sha256(text)) else None  # the latter if broken
