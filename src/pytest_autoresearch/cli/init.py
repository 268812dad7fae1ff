"""`autoresearch init`: begin a project in any folder, or a track for this machine's GPU."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from pytest_autoresearch.cli.command import Commands
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import escaped
from pytest_autoresearch.core.track import has_cuda, track_names
from pytest_autoresearch.judging.new_project import EXPERIMENT, Beginning, CardTrack, add_track, begin, project_to_begin
from pytest_autoresearch.judging.project import Project
from pytest_autoresearch.judging.track_presets import GB, Card, find_card, size_for


def add_commands(commands: Commands) -> None:
    """`init`."""
    parser = commands.add_parser("init", help="begin a project in this folder, or a track for the GPU that is there")
    parser.add_argument(
        "--track",
        dest="new_track",
        nargs="?",
        const="",
        metavar="NAME",
        help="a smaller `cuda` for this machine's GPU, called NAME (default: cuda-<n>gb); alone where there are tracks",
    )
    parser.add_argument("--ci", choices=["github"], help="also a workflow that judges experiments on a runner of yours")
    parser.set_defaults(
        find=project_to_begin, run=lambda command, options: init(command.project, options.new_track, options.ci)
    )


def init(project: Project, new_track: str | None, ci: str | None) -> None:
    """Begin a project, or complete one. `new_track` names a track for the GPU: all that is written where tracks are."""
    card: Card | None = None
    if not track_names(project.baseline):
        card = card_to_use() if new_track is None else find_card()
    elif new_track is not None:
        print("\n".join(track_lines(add_track(project, find_card(), new_track))))
        if ci is None:
            return
    done = begin(project, card, new_track or "", ci is not None)
    for line in (*lines_of(done), "", *next_commands(done)):
        print(escaped(line))


def card_to_use() -> Card | None:
    """The GPU of this machine, if there is one to train on. Says why one that is there is of no use."""
    if not (has_cuda() or sys.platform == "darwin"):  # without a look at torch, whose import takes seconds
        return None
    try:
        card = find_card()
        size_for(card)
        return card
    except UsageError as reason:
        print(f"no track for a GPU: {reason}")
        return None


def track_lines(track: CardTrack) -> list[str]:
    """What a track for a card is like, and how to judge on it."""
    card, size, folder = track.card, track.size, track.folder
    precision = "bfloat16" if card.fast else "float32, because it lacks bfloat16 or flash attention"
    return [
        f"{card.name}, {card.memory / GB:.0f} GB, {precision}:",
        f"  depth {size.depth}, {size.sequence_length} tokens a sequence, vocabulary {size.vocab_size},",
        f"  {size.total_batch:,} tokens a step, {size.batch_size} sequences at once, scored on {size.eval_tokens:,}",
        f"{folder}: judge on it with --ar-track {folder.name}, or set autoresearch_track in pytest's settings",
    ]


def lines_of(done: Beginning) -> list[str]:
    """Which folder is the project, each file that was written or left, and what is left to do."""
    here = os.path.relpath
    head = f"a new project in {done.project.root}" if done.is_new else f"{done.project.root} is a project already"
    tracks = f"{'track' if len(done.tracks) == 1 else 'tracks'} {', '.join(done.tracks)}"
    lines = [f"{head}: {tracks}"]
    lines += [f"  wrote {here(path)}" for path in done.files.written]
    lines += [f"  added lines to {here(path)}" for path in done.files.appended]
    for path, what in done.files.left.items():
        lines.append(f"  left {here(path)} as it is" + f": {what}" * (what != "a file"))
    lines += track_lines(done.card_track) if done.card_track else []
    return lines + [f"note: {note}" for note in done.notes]


def next_commands(done: Beginning) -> list[str]:
    """Three commands to go on with."""
    folder = shlex.quote(os.path.relpath(done.project.experiments))
    judge = f"{tool('pytest')} {folder}"
    first = (f"{judge} -k {EXPERIMENT}", "records the baseline, trains one idea, prints its verdict")
    rest = [
        (f"{tool('autoresearch')} new my_idea", f"begins one of yours: {folder}/my_idea.py"),
        (f"{tool('autoresearch')} loop --agent random", "has ideas by itself, and judges them; or give it your agent"),
    ]
    commands = [first if done.is_new else (judge, "judges every idea that has no verdict yet"), *rest]
    width = max(len(command) for command, _ in commands)
    return [
        f"{'Next:' if number == 0 else '     '} {command:<{width}}  {what}"
        for number, (command, what) in enumerate(commands)
    ]


def tool(name: str) -> str:
    """How a program of this environment is typed here: by its name if the shell finds it, else by its path."""
    own, found = Path(sys.executable).with_name(name), shutil.which(name)
    if not own.exists() or (found and os.path.realpath(found) == os.path.realpath(own)):
        return name
    near = os.path.relpath(own)
    return shlex.quote(str(own) if near.startswith("..") else near)
