"""The file of a sweep: its search space, and the experiment that it is at each point of the space."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.programs.arithmetic import Value
from pytest_autoresearch.programs.constants import constants_of, spell, with_constants
from pytest_autoresearch.programs.experiment import Experiment, Program, read_experiment
from pytest_autoresearch.programs.search_space import (
    SearchSpace,
    check_computed,
    check_keys,
    read_search_space,
    without_search_space,
)


@dataclass(frozen=True)
class SweepFile:
    """A file with SEARCH_SPACE, in a project. It is read when something is first asked of it."""

    context: Context
    path: Path

    @cached_property
    def experiment(self) -> Experiment:
        """The file as it is written. UsageError as `read_experiment`."""
        return read_experiment(self.path, self.context.project.experiments)

    @property
    def name(self) -> str:
        """The name of the experiment, as in the ledger, without a trial's or a finalist's."""
        return self.experiment.name

    @cached_property
    def space(self) -> SearchSpace:
        """What SEARCH_SPACE, CONSTRAINTS and VARY say. UsageError as `read_search_space`."""
        return read_search_space(self.path, self.experiment.source)

    @cached_property
    def structure(self) -> Experiment:
        """The file without its search space: the overlay that is the same at each point."""
        return replace(self.experiment, source=without_search_space(self.experiment.source))

    @cached_property
    def constants(self) -> dict[str, Value]:
        """The constants of the program at no point: those of the baseline, and those that the file itself sets.

        With the sizes of the track, which constraints may use. UsageError if SEARCH_SPACE does not fit them.
        """
        context, path = self.context, self.context.baseline.path
        source = self._program(self.structure).source
        constants = constants_of(source)
        sizes = {"SEQUENCE_LENGTH": context.track.sequence_length, "VOCAB_SIZE": context.track.vocab_size}
        check_keys(replace(self.space, constraints=()), constants, self.path, path)  # the sizes are no keys
        check_keys(self.space, {**sizes, **constants}, self.path, path)
        check_computed(self.space, source, self.path)
        return {**sizes, **constants}

    def at(self, name: str, values: dict[str, Value]) -> tuple[Experiment, Program]:
        """The experiment at one point of the space, called `name`, and its program."""
        words = spell(values)
        experiment = replace(
            self.structure,
            name=name,
            source=with_constants(self.structure.source, values),
            description=f"{words}: {self.experiment.description}",
            constants=words,
        )
        return experiment, self._program(experiment)

    def named_in(self, error: UsageError) -> UsageError:
        """The error in one line that names the file, unless it names one already."""
        line, where = self.context.shorten(error), self.context.relative(self.path)
        return UsageError(line if line.startswith((where, "results")) else f"{where}: {line}")

    def _program(self, experiment: Experiment) -> Program:
        return experiment.program(self.context.baseline_program.source, self.context.baseline.path)
