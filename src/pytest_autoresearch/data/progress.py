"""Progress: how the work on data reports its progress, and how a terminal shows it."""

import shutil
from collections.abc import Callable
from typing import Never, TextIO

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done, 0 to 1. A stage that begins at 1 is a message."""


def silent(stage: str, done: float) -> None:
    """A Progress that shows nothing."""


def show_progress(stream: TextIO) -> Progress:
    """A Progress that draws a bar for each stage on a terminal. Elsewhere it prints the name of each stage once."""
    if not stream.isatty():
        return _print_names(stream)
    from tqdm import tqdm

    bar: tqdm[Never] | None = None

    def show(stage: str, done: float) -> None:
        nonlocal bar
        if bar is not None and bar.desc != stage:
            bar.close()
            bar = None
        if bar is None and done >= 1:  # a message
            print(stage, file=stream, flush=True)
            return
        if bar is None:
            columns, lines = shutil.get_terminal_size()  # where the size is unknown, tqdm itself draws nothing
            layout = "{desc} {percentage:3.0f}% |{bar:20}| {elapsed}"
            bar = tqdm(total=1.0, desc=stage, file=stream, ncols=columns, nrows=lines, bar_format=layout)
        bar.update(done - bar.n)
        if done >= 1:
            bar.close()
            bar = None

    return show


def _print_names(stream: TextIO) -> Progress:
    printed = set[str]()

    def show(stage: str, done: float) -> None:
        if stage not in printed:
            printed.add(stage)
            print(stage, file=stream, flush=True)

    return show
