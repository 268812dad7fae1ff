"""The `autoresearch` command: prepare a track's text, begin a track or an experiment, show programs and patches."""

import argparse
import keyword
import os
import sys
from importlib.metadata import version
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import escaped, one_line, quoted
from pytest_autoresearch.core.track import read_track, track_names
from pytest_autoresearch.data.progress import show_progress
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.plan import taken_back
from pytest_autoresearch.judging.project import Options, Project, find_project
from pytest_autoresearch.judging.track_presets import GB, find_card, write_track
from pytest_autoresearch.programs.compare import same_program, unified_diff
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.spelling import nearest
from pytest_autoresearch.referee.local import LocalExecutor

TEMPLATE = '''"""{title}: one line that says what changes and why it should help."""

from baseline import *

# Redefine what you change: a function, a class, or an UPPERCASE constant of the baseline. For example:
# BATCH_SIZE = BATCH_SIZE // 2
'''


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 after one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        project, settings = find_project(Path.cwd())
        track = options.track or settings.get("autoresearch_track") or None
        match options.command:
            case "init":
                init_track(project, options.new_track)
            case "prepare":
                prepare(_context(project, track), options.shards)
            case "new":
                print(new(project, options.name))
            case "show" | "diff":
                show(project, track, options.name, as_patch=options.command == "diff")
    except UsageError as error:
        print(f"autoresearch: {one_line(str(error))}", *quoted(error.detail), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("autoresearch: interrupted; finished parts are kept, and the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autoresearch", description="Experiments as tests: the tools beside pytest.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('pytest-autoresearch')}")
    parser.add_argument(
        "--ar-track", "--track", dest="track", metavar="NAME", help="track (default: as pytest chooses)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser(
        "prepare", help="make the track's text into rows of tokens, unless the cache has them"
    )
    preparing.add_argument(
        "--shards", type=int, metavar="N", help="train on N shards of a corpus from the hub (remembered; at first 10)"
    )
    beginning = commands.add_parser("init", help="begin a track: a smaller `cuda` for the GPU that is there")
    beginning.add_argument(
        "--track", dest="new_track", nargs="?", const="", required=True, metavar="NAME", help="(default: cuda-<n>gb)"
    )
    for name, what in (
        ("new", "begin an experiment from a template"),
        ("show", "print the complete program that an experiment runs"),
        ("diff", "print that program against the baseline"),
    ):
        commands.add_parser(name, help=what).add_argument("name", help="experiment, such as rmsnorm")
    return parser


def _context(project: Project, track: str | None) -> Context:
    return Context(project, Options(track=track), LocalExecutor(project.root))


def prepare(context: Context, shards: int | None) -> None:
    """Make the track's text into rows of tokens. `shards` sets how many files of a hub corpus to train on."""
    progress = show_progress(sys.stderr)
    if shards is not None:
        open_corpus(context.track.corpus, context.project.root, shards=shards, progress=progress)
    data = context.prepare(progress)
    tokens, held_out = data.train_rows.size, data.heldout_rows.size
    print(f"track {context.track.name}: {tokens:,} training tokens, {held_out:,} held out, in {data.folder}")


def init_track(project: Project, name: str) -> None:
    """Write `baseline/NAME/`: the project's track `cuda`, sized for this machine's GPU."""
    model = read_track(project.baseline / "cuda")
    card = find_card()
    folder, size = write_track(model, name or f"cuda-{card.memory / GB:.0f}gb", card)
    precision = "bfloat16" if card.fast else "float32, because it lacks bfloat16 or flash attention"
    print(f"{card.name}, {card.memory / GB:.0f} GB, {precision}:")
    print(f"  depth {size.depth}, {size.sequence_length} tokens a sequence, vocabulary {size.vocab_size},")
    print(f"  {size.total_batch:,} tokens a step, {size.batch_size} sequences at once, scored on {size.eval_tokens:,}")
    print(f"{folder}: judge on it with --ar-track {folder.name}, or set autoresearch_track in pytest's settings")


def new(project: Project, name: str) -> Path:
    """Write `experiments/NAME.py`. Never overwrites a file."""
    path = experiment_path(project, name)
    title = path.stem.replace("_", " ").capitalize()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(title=title))
    except FileExistsError:
        raise UsageError(f"{path}: already exists; choose another name") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def show(project: Project, track: str | None, name: str, as_patch: bool) -> None:
    """Print the program of an experiment, or its patch to the baseline. Its own TRACK, if it has one, decides."""
    experiment = read_experiment(find(project, name), project.experiments)
    if not track and experiment.track in track_names(project.baseline):
        track = experiment.track
    context = _context(project, track)
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
        for note in notes:
            print(f"autoresearch: {experiment.name}: {note}", file=sys.stderr)


def find(project: Project, name: str) -> Path:
    """The file of an experiment. UsageError suggests similar names, or lists all."""
    path = experiment_path(project, name)
    if not path.is_file():
        files = (file.relative_to(project.experiments) for file in sorted(project.experiments.rglob("[!_]*.py")))
        known = [file.with_suffix("").as_posix() for file in files]
        wanted = path.relative_to(project.experiments).with_suffix("").as_posix()
        if near := nearest(wanted, known):
            raise UsageError(f"{path}: no such experiment; did you mean {' or '.join(near)}?")
        raise UsageError(f"{path}: no such experiment; there is: {', '.join(known) or 'none'}")
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


if __name__ == "__main__":
    sys.exit(main())
