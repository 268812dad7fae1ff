"""What every command works on: the project, the track and the context."""

from argparse import ArgumentParser, _SubParsersAction
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.referee.local import LocalExecutor

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"
"""The place where a module adds the parsers of its commands. Each sets `run`, a function of (Command, options)."""


@dataclass(frozen=True)
class Command:
    """The project in which a command was typed, and the track it names; None where pytest's choice holds."""

    project: Project
    track: str | None

    @cached_property
    def context(self) -> Context:
        """The context of the project on the track."""
        return Context(self.project, Options(track=self.track), LocalExecutor(self.project.root))
