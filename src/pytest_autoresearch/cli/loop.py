"""`autoresearch loop`: an agent proposes, pytest judges, until a limit is reached."""

from pytest_autoresearch.cli.command import Commands


def add_commands(commands: Commands) -> None:
    """`loop`."""
    raise NotImplementedError
