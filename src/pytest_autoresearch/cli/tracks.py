"""Commands for tracks: `init` begins one, `prepare` makes its text into rows."""

import sys

from pytest_autoresearch.cli.command import Commands
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.data.progress import show_progress
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Project
from pytest_autoresearch.judging.track_presets import GB, find_card, write_track


def add_commands(commands: Commands) -> None:
    """`prepare` and `init`."""
    preparing = commands.add_parser(
        "prepare", help="make the track's text into rows of tokens, unless the cache has them"
    )
    preparing.add_argument(
        "--shards", type=int, metavar="N", help="train on N shards of a corpus from the hub (remembered; at first 10)"
    )
    preparing.set_defaults(run=lambda command, options: prepare(command.context, options.shards))
    beginning = commands.add_parser("init", help="begin a track: a smaller `cuda` for the GPU that is there")
    beginning.add_argument(
        "--track",
        dest="new_track",
        nargs="?",
        const="",
        required=True,
        metavar="NAME",
        help="name of the new track (default: cuda-<n>gb)",
    )
    beginning.set_defaults(run=lambda command, options: init_track(command.project, options.new_track))


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
