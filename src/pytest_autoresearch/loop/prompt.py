"""The prompt of a round: program.md, the brief, the backlog, what waits and trains now, and a crash to mend."""

from collections.abc import Mapping

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.status import Status


def make_prompt(
    context: Context,
    status: Status,
    refused: Mapping[str, str],
    number: int = 1,
    of: int = 1,
    crash: Verdict | None = None,
) -> str:
    """The text for one session of an agent, the `number`-th of those `of` that work at once.

    `refused`: why its files went back, by file. `crash`: the verdict on an experiment that it is to mend.
    """
    raise NotImplementedError


def scratch_files(context: Context) -> dict[str, str]:
    """Further files for the scratch folder, by name: the brief, and experiments that `suggest` would write."""
    raise NotImplementedError
