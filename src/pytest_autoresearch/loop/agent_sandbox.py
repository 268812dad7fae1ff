"""The sandbox of an agent (`--agent-sandbox`): the network stays; it can write only to its scratch folder."""

from collections.abc import Sequence
from pathlib import Path


def wrap(command: Sequence[str], folder: Path, writable: Sequence[str]) -> list[str]:
    """The command line that runs `command` in bubblewrap, in `folder`. UsageError if bubblewrap does not work here.

    The whole system is read-only, but for `folder`, a /tmp of its own, and the `writable` paths below the home.
    """
    raise NotImplementedError
