"""The `autoresearch` command: prepare a track's text, begin a track or an experiment, show and compare programs."""

import argparse
import os
import sys
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import read_track, track_names
from pytest_autoresearch.data.corpus import open_corpus
from pytest_autoresearch.data.prepare import progress_bar
from pytest_autoresearch.judging.project import Options, Project, find_project
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.judging.track_presets import GB, find_card, write_track
from pytest_autoresearch.programs.compare import unified_diff

TEMPLATE = '''"""{title}: one line that says what changes and why it should help."""

from baseline import *

# Redefine what you change: a function, a class, or an UPPERCASE constant of the baseline. For example:
# BATCH_SIZE = BATCH_SIZE // 2
'''


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 after one line on standard error."""
    parser = argparse.ArgumentParser(prog="autoresearch", description="Experiments as tests: the tools beside pytest.")
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
    options = parser.parse_args(arguments)
    try:
        project, settings = find_project(Path.cwd())
        if options.command == "init":
            init_track(project, options.new_track)
            return 0
        session = Session(project, Options(track=options.track or settings.get("autoresearch_track") or None))
        match options.command:
            case "prepare":
                prepare(session, options.shards)
            case "new":
                print(new(session.project, options.name))
            case "show" | "diff":
                experiment = session.read(find(project, options.name))
                if not options.track and experiment.track in track_names(project.baseline):
                    session = Session(project, Options(track=experiment.track))  # made for this one alone
                program = session.program(experiment).source
                baseline, path = session.baseline_source, str(session.baseline.path)
                patch = options.command == "diff"
                sys.stdout.write(unified_diff(baseline, program, path, experiment.name) if patch else program)
    except UsageError as error:
        print(f"autoresearch: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        sys.stderr.close()
    return 0


def prepare(session: Session, shards: int | None) -> None:
    progress = progress_bar(sys.stderr)
    if shards is not None:
        open_corpus(session.track.corpus, session.project.root, shards=shards, progress=progress)
    data = session.prepare(progress)
    tokens = data.train_rows.size
    print(
        f"track {session.track.name}: {tokens:,} training tokens, {data.heldout_rows.size:,} held out, in {data.folder}"
    )


def init_track(project: Project, name: str) -> None:
    """Write `baseline/NAME/`, the project's track `cuda` sized for the card of this machine."""
    model = read_track(project.baseline / "cuda")
    card = find_card()
    folder, size = write_track(model, name or f"cuda-{card.memory / GB:.0f}gb", card)
    precision = "bfloat16" if card.fast else "float32, for it has no bfloat16 or no flash attention"
    print(f"{card.name}, {card.memory / GB:.0f} GB, {precision}:")
    print(f"  depth {size.depth}, {size.sequence_length} tokens a sequence, vocabulary {size.vocab_size},")
    print(f"  {size.total_batch:,} tokens a step, {size.batch_size} sequences at once, scored on {size.eval_tokens:,}")
    print(f"{folder}: judge on it with --ar-track {folder.name}, or set autoresearch_track in pytest's settings")


def new(project: Project, name: str) -> Path:
    """Write `experiments/NAME.py`; never over a file that is there."""
    path = experiment_path(project, name)
    title = path.stem.replace("_", " ").capitalize()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(title=title))
    except FileExistsError:
        raise UsageError(f"{path}: is there already; choose another name") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def find(project: Project, name: str) -> Path:
    """The file of an experiment. UsageError names those that there are."""
    path = experiment_path(project, name)
    if not path.is_file():
        files = (file.relative_to(project.experiments) for file in sorted(project.experiments.rglob("[!_]*.py")))
        known = ", ".join(file.with_suffix("").as_posix() for file in files)
        raise UsageError(f"{path}: no such experiment; there is: {known or 'none'}")
    return path


def experiment_path(project: Project, name: str) -> Path:
    """`rmsnorm`, `rmsnorm.py` and `experiments/rmsnorm.py` are all the same experiment."""
    given = Path(os.path.abspath(name))
    if project.experiments in given.parents and given.is_file():
        return given
    path = project.experiments / (name.removesuffix(".py") + ".py")
    if project.experiments not in Path(os.path.abspath(path)).parents or path.name[0] == "_" or path.stem == "conftest":
        raise UsageError(f"{path}: not a name of an experiment; it must lie in {project.experiments}")
    return path


if __name__ == "__main__":
    sys.exit(main())
