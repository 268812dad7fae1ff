"""How long the commands that read a long history take, from the start of the interpreter to its end.

    .venv/bin/python benchmarks/memory.py [--verdicts 10000] [--evidence 1000] [--keep FOLDER]

Makes a project with so many made-up verdicts (tests/synthetic_history.py), and evidence for the latest of them. Prints
the best of three runs of each command, and its lines of output. A command that is not there is left out, and named.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_history import SyntheticHistory

COMMANDS = (["history"], ["history", "--json"], ["brief"], ["brief", "--json"], ["suggest"])
AUTORESEARCH = [sys.executable, "-m", "pytest_autoresearch.cli"]
TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=10_000, metavar="N")
    parser.add_argument("--evidence", type=int, default=1_000, metavar="N", help="of how many verdicts")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the project there and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        make_project(root, options.verdicts, options.evidence)
        there = commands_there(root)
        rows = [measure(root, command) for command in COMMANDS if command[0] in there]
    print(f"{options.verdicts:,} verdicts, evidence of {options.evidence:,}; best of {TIMES}\n")
    print(tabulate(rows, headers=["command", "seconds", "lines"], tablefmt="github", floatfmt=".2f"))
    if missing := sorted({command[0] for command in COMMANDS} - there):
        print(f"\nnot there: {', '.join(missing)}")


def make_project(root: Path, verdicts: int, evidence: int) -> None:
    """Ledger, track, baseline, files of the latest experiments, evidence."""
    root.mkdir(parents=True, exist_ok=True)
    history = SyntheticHistory.of(root, verdicts)
    history.write(experiments=verdicts)
    history.write_evidence(evidence)


def commands_there(root: Path) -> set[str]:
    """The subcommands that `autoresearch` has."""
    said = subprocess.run([*AUTORESEARCH, "--help"], cwd=root, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"[a-z]+", said.partition("{")[2].partition("}")[0]))


def measure(root: Path, command: list[str]) -> tuple[str, float, int]:
    """The command, the seconds of its fastest run, and how many lines it printed. Ends where a command fails."""
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        done = subprocess.run([*AUTORESEARCH, *command], cwd=root, capture_output=True, text=True)
        seconds.append(time.perf_counter() - begun)
        if done.returncode:
            raise SystemExit(f"autoresearch {' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return f"autoresearch {' '.join(command)}", min(seconds), len(done.stdout.splitlines())


if __name__ == "__main__":
    main()
