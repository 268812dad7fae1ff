"""`autoresearch new`: begin an experiment from a template, other experiments, constants, or an edit of `train.py`."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.cli.programs import experiment_path, find, note, on_track
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.recording import program_before_edit
from pytest_autoresearch.programs.arithmetic import Value
from pytest_autoresearch.programs.combine import combine, described, overlay, title_of
from pytest_autoresearch.programs.constants import constants_of, different, read_setting, spell, with_constants
from pytest_autoresearch.programs.edit import experiment_from_edit
from pytest_autoresearch.programs.experiment import Experiment, Program, parse_errors, parse_experiment, read_experiment
from pytest_autoresearch.programs.search_space import without_search_space
from pytest_autoresearch.programs.spelling import did_you_mean

TEMPLATE = '''"""{title}: one line that says what changes and why it should help."""

from baseline import *

# Redefine what you change: a function, a class, or an UPPERCASE constant of the baseline. For example:
# BATCH_SIZE = BATCH_SIZE // 2
'''
OVERLAY = "from baseline import *\n"


def add_commands(commands: Commands) -> None:
    """`new`."""
    parser = commands.add_parser("new", help="begin an experiment: from a template, other experiments, or an edit")
    parser.add_argument("name", help="experiment, such as my_idea")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--combine", nargs="+", metavar="EXPERIMENT", help="one overlay that does what several do")
    origin.add_argument("--from", dest="origin", metavar="EXPERIMENT", help="a copy of an experiment")
    origin.add_argument(
        "--from-edit", action="store_true", help="what was edited in train.py by hand; puts train.py back"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", metavar="NAME=VALUE", default=[], help="give constants these values"
    )
    parser.set_defaults(run=lambda command, options: print(os.path.relpath(new(command, options))))


def new(command: Command, options: argparse.Namespace) -> Path:
    """Write `experiments/NAME.py`, and return its path. Never overwrites a file."""
    path = experiment_path(command.project, options.name)
    if options.from_edit:
        if options.set:
            raise UsageError("--set does not go with --from-edit; edit the constants in train.py, too")
        return from_edit(command, path)
    write(path, text_of(command, path, options))
    return path


def text_of(command: Command, path: Path, options: argparse.Namespace) -> str:
    """The text of the experiment that the options ask for, but for `--from-edit`."""
    values = read_settings(options.set)
    if options.combine:
        text = combined(command, options.combine)
    elif options.origin:
        original = read_experiment(find(command.project, options.origin), command.project.experiments)
        text = described(original.source, f"{path.stem}: from {original.name}:")
    elif values:
        check_values(command, path, OVERLAY, values)
        track = command.context.track.folder.name
        return overlay(f"{title_of(path)}: {spell(values)}", track, with_constants(OVERLAY, values))
    else:
        return TEMPLATE.format(title=title_of(path))
    if values:
        check_values(command, path, text, values)
        text = described(with_constants(text, values), f"{spell(values)}:")
    return text


def write(path: Path, text: str) -> None:
    """Write a new file. UsageError if there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: already exists; choose another name") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def combined(command: Command, names: Sequence[str]) -> str:
    """One overlay from several experiments. UsageError if one does not apply to the baseline by itself."""
    if len(names) < 2:
        raise UsageError(f"--combine {names[0]}: name at least two experiments")
    project = command.project
    experiments = [read_experiment(find(project, name), project.experiments) for name in names]
    track = next((experiment.track for experiment in experiments if experiment.track), None)
    baseline = on_track(command, track).context.baseline
    source = baseline.source()
    overlays = [(experiment.path, experiment.source) for experiment in experiments]
    combine(overlays)  # what is wrong with these goes before what is wrong with the baseline
    for path, text in overlays:
        parse_experiment(path, project.experiments, without_search_space(text)).program(source, baseline.path)
    return combine(overlays, source)


def read_settings(texts: Sequence[str]) -> dict[str, Value]:
    """The constants of `--set`. UsageError if one is given twice."""
    values: dict[str, Value] = {}
    for text in texts:
        name, value = read_setting(text)
        if name in values:
            raise UsageError(f"--set {name}: given twice")
        values[name] = value
    return values


def check_values(command: Command, path: Path, text: str, values: Mapping[str, Value]) -> None:
    """UsageError if the program of an experiment lacks such a constant, has another kind of value there, or has all
    these values already."""
    with parse_errors(path):
        experiment = parse_experiment(path, command.project.experiments, text)
        baseline = on_track(command, experiment.track).context.baseline
        plain = parse_experiment(path, command.project.experiments, without_search_space(text))
        constants = constants_of(plain.program(baseline.source(), baseline.path).source)
    where = baseline.path if experiment.is_overlay else "the program"
    for name, value in values.items():
        if name not in constants:
            hint = did_you_mean(name, constants) or f"there is: {', '.join(constants)}"
            raise UsageError(f"--set {name}: {where} has no such constant; {hint}")
        if isinstance(value, str) and not isinstance(constants[name], str):
            raise UsageError(f"--set {name}={one_line(value)}: in {where} it is no string but {constants[name]!r}")
    if not different(values, constants):
        raise UsageError(f"--set {spell(values)}: {where} has these values already")


def from_edit(command: Command, path: Path) -> Path:
    """Make what was edited in `train.py` an experiment, and put `train.py` back.

    A kill in between leaves both the edit and the experiment; the same command then puts `train.py` back.
    """
    context = command.context
    baseline = context.baseline
    with baseline.lock():
        edited = Program(baseline.source())
        with parse_errors(baseline.path):
            old = program_before_edit(context, edited)
            experiment = experiment_from_edit(
                old.source, edited.source, path, command.project.experiments, context.track.folder.name
            )
        if not is_written(experiment):
            write(path, experiment.source)
        try:
            write_atomically(baseline.path, old.source)
        except OSError as error:
            raise UsageError(
                f"{baseline.path}: cannot be put back: {error.strerror}; the experiment {path} is written"
            ) from None
    note(experiment, f"{context.relative(baseline.path)} is what it was before the edit")
    if not experiment.is_overlay:
        note(experiment, "a complete program: no overlay removes or moves statements")
    return path


def is_written(experiment: Experiment) -> bool:
    """Whether the file has this very text: the same command was killed after it wrote the file."""
    try:
        return experiment.path.read_text(encoding="utf-8") == experiment.source
    except (OSError, UnicodeDecodeError):
        return False
