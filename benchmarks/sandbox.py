"""What the sandbox adds to a run: the start and the end of a candidate's process, with it and without, in turns.

    .venv/bin/python benchmarks/sandbox.py [--repeats 30]

The process imports the candidate's code and ends. It does not import torch, whose import varies by more than what the
sandbox takes. The sandbox works at the start (mounts, namespaces) and at the end; training runs on the same kernel. It
hides what the corpus "stdlib" holds out, which are more mounts than any other corpus needs.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from pytest_autoresearch.data.sources import find_held_out
from pytest_autoresearch.referee.sandbox import find_sandbox

COMMAND = [sys.executable, "-P", "-c", "import pytest_autoresearch.candidate.__main__"]


def seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        began = time.perf_counter()
        sandbox, words = find_sandbox("bwrap", [folder], partial(find_held_out, "stdlib"))
        assert sandbox is not None, words
        print(f"finding out whether it works, once a session: {(time.perf_counter() - began) * 1000:.0f} ms")
        inside = sandbox.wrap(COMMAND)
        pairs = [(seconds(COMMAND, folder), seconds(inside, folder)) for _ in range(repeats)]
    plain, boxed = (median(column) for column in zip(*pairs, strict=True))
    added = median(with_it - without for without, with_it in pairs)
    print(f"without the sandbox {plain * 1000:.0f} ms, in it {boxed * 1000:.0f} ms, median of {repeats} each")
    print(
        f"the sandbox adds {added * 1000:.0f} ms to a run (median of the paired differences): {boxed / plain:.2f} times"
    )


if __name__ == "__main__":
    main()
