"""`autoresearch prepare`: make the track's text into rows."""

import sys

from pytest_autoresearch.cli.command import Commands
from pytest_autoresearch.data.progress import show_progress
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.judging.context import Context


def add_commands(commands: Commands) -> None:
    """`prepare`."""
    preparing = commands.add_parser(
        "prepare", help="make the track's text into rows of tokens, unless the cache has them"
    )
    preparing.add_argument(
        "--shards", type=int, metavar="N", help="train on N shards of a corpus from the hub (remembered; at first 10)"
    )
    preparing.set_defaults(run=lambda command, options: prepare(command.context, options.shards))


def prepare(context: Context, shards: int | None) -> None:
    """Make the track's text into rows of tokens. `shards` sets how many files of a hub corpus to train on."""
    progress = show_progress(sys.stderr)
    if shards is not None:
        open_corpus(context.track.corpus, context.project.root, shards=shards, progress=progress)
    data = context.prepare(progress)
    tokens, held_out = data.train_rows.size, data.heldout_rows.size
    print(f"track {context.track.name}: {tokens:,} training tokens, {held_out:,} held out, in {data.folder}")
