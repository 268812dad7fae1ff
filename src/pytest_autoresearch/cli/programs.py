"""Commands that show programs: `show` and `diff`. Also, how commands name an experiment."""

import keyword
import os
import sys
from argparse import Namespace
from pathlib import Path

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.cli.evidence import show_evidence
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import escaped
from pytest_autoresearch.core.track import track_names
from pytest_autoresearch.judging.plan import taken_back
from pytest_autoresearch.judging.project import Project
from pytest_autoresearch.programs.compare import same_program, unified_diff
from pytest_autoresearch.programs.experiment import Experiment, read_experiment
from pytest_autoresearch.programs.spelling import did_you_mean


def add_commands(commands: Commands) -> None:
    """`show` and `diff`."""
    showing = commands.add_parser("show", help="print the complete program that an experiment runs")
    showing.add_argument(
        "--evidence", action="store_true", help="what it earned instead: verdict, patch, loss curves, end of the log"
    )
    showing.add_argument("--json", action="store_true", help="the evidence as JSON")
    showing.set_defaults(run=show_program_or_evidence)
    patching = commands.add_parser("diff", help="print that program against the baseline")
    patching.set_defaults(run=lambda command, options: show(command, options.name, as_patch=True))
    for parser in (showing, patching):
        parser.add_argument("name", help="experiment, such as rmsnorm")


def show_program_or_evidence(command: Command, options: Namespace) -> None:
    """`show`. UsageError if JSON is asked for of a program."""
    if options.evidence:
        show_evidence(command, options.name, options.json)
    elif options.json:
        raise UsageError("--json: only what `show --evidence` prints is there as JSON")
    else:
        show(command, options.name, as_patch=False)


def show(command: Command, name: str, as_patch: bool) -> None:
    """Print the program of an experiment, or its patch to the baseline. Its own TRACK, if it has one, decides."""
    project = command.project
    experiment = read_experiment(find(project, name), project.experiments)
    context = on_track(command, experiment.track).context
    baseline, path = context.baseline_program.source, context.relative(context.baseline.path)
    program = experiment.program(baseline, context.baseline.path).source
    text = unified_diff(baseline, program, path, experiment.name) if as_patch else program
    if sys.stdout.isatty():  # elsewhere every byte counts
        text = "".join(f"{escaped(line.expandtabs())}\n" for line in text.removesuffix("\n").split("\n"))
    sys.stdout.write(text)
    if as_patch:
        notes = taken_back(context, experiment)
        if same_program(baseline, program):
            notes.append(f"the program equals the baseline {path}")
        for text in notes:
            note(experiment, text)


def note(experiment: Experiment, text: str) -> None:
    """Print what the author of an experiment should know, apart from the output."""
    print(f"autoresearch: {experiment.name}: {text}", file=sys.stderr)


def on_track(command: Command, track: str | None) -> Command:
    """The command on the experiment's own track, if the project has that track and the command names none."""
    is_there = not command.track and track in track_names(command.project.baseline)
    return Command(command.project, track) if is_there else command


def find(project: Project, name: str) -> Path:
    """The file of an experiment. UsageError suggests similar names, or lists all."""
    path = experiment_path(project, name)
    if not path.is_file():
        files = (file.relative_to(project.experiments) for file in sorted(project.experiments.rglob("[!_]*.py")))
        known = [file.with_suffix("").as_posix() for file in files]
        wanted = path.relative_to(project.experiments).with_suffix("").as_posix()
        hint = did_you_mean(wanted, known) or f"there is: {', '.join(known) or 'none'}"
        raise UsageError(f"{path}: no such experiment; {hint}")
    return path


def experiment_path(project: Project, name: str) -> Path:
    """The path of `rmsnorm`, `rmsnorm.py` or `experiments/rmsnorm.py`. UsageError if the name is not allowed."""
    file = name.removesuffix(".py") + ".py"
    path = Path(os.path.abspath(file))  # as a shell completes it
    if project.experiments not in path.parents or ("/" not in name and not path.is_file()):
        path = Path(os.path.abspath(project.experiments / file))
    if project.experiments in path.parents:
        parts = path.relative_to(project.experiments).with_suffix("").parts
        names = all(part.isidentifier() and not keyword.iskeyword(part) and part[0] != "_" for part in parts)
        if names and path.stem != "conftest":
            return path
    raise UsageError(
        f"{name}: not a name of an experiment; it must have only letters, digits and _, begin with a letter, not be "
        f"a keyword, and lie in {project.experiments}"
    )
