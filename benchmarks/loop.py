"""How busy the loop keeps the device while the agent thinks: `--ahead 0` against `--ahead 2`.

    .venv/bin/python benchmarks/loop.py [--experiments 8] [--thinks 10] [--track cpu] [--sandbox auto]

Both loops run in a copy of this project without its experiments, whose baseline is recorded first. The agent is
`random`, after so many seconds of thinking, so both get the same proposals. Prints, for each, the share of the time in
which something trained or was scored, and the experiments an hour, as the loop's own summary has them.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).parents[1]
RANDOM = [sys.executable, "-m", "pytest_autoresearch.loop.random_agent"]
RECORDED = '"""A little more warm-up."""\nfrom baseline import *\n\nWARMUP = WARMUP * 1.01\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=8, metavar="N")
    parser.add_argument("--thinks", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--track", default="cpu")
    parser.add_argument("--sandbox", default="auto", choices=["auto", "off"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recorded = make_project(Path(folder) / "recorded", options)
        rows = [measure(recorded, ahead, options) for ahead in (0, 2)]
    print(
        f"{options.experiments} experiments on track {options.track}, an agent that thinks for {options.thinks:g} s\n"
    )
    print(tabulate(rows, headers=["--ahead", "device busy", "experiments an hour"], tablefmt="github"))


def make_project(folder: Path, options: argparse.Namespace) -> Path:
    """A copy of this project with a record of its baseline and without experiments."""
    folder.mkdir()
    shutil.copytree(ROOT / "baseline", folder / "baseline")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    shutil.copy(ROOT / "program.md", folder)
    (folder / "experiments").mkdir()
    first = folder / "experiments/first.py"
    first.write_text(RECORDED, encoding="utf-8")
    command = ["pytest", "experiments", "--ar-track", options.track, "--ar-no-promote", "--ar-sandbox", options.sandbox]
    subprocess.run([sys.executable, "-m", *command], cwd=folder, stdout=sys.stderr, check=False)
    first.unlink()
    return folder


def measure(recorded: Path, ahead: int, options: argparse.Namespace) -> tuple[int, str, float]:
    """One loop in a copy of the project: what its summary says."""
    folder = recorded.with_name(f"ahead-{ahead}")
    shutil.copytree(recorded, folder)
    agent = shlex.join(["sh", "-c", f"sleep {options.thinks:g}; exec {shlex.join(RANDOM)}"])
    command = ["loop", "--agent", agent, "--track", options.track, "--ahead", str(ahead)]
    command += ["--experiments", str(options.experiments), "--", "--ar-sandbox", options.sandbox]
    done = subprocess.run(
        [sys.executable, "-m", "pytest_autoresearch.cli", *command], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, file=sys.stderr)
    found = re.search(r"^([\d.]+) experiments an hour, device busy (\d+%)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        sys.exit(f"the loop with --ahead {ahead} ended with exit code {done.returncode}")
    return ahead, found[2], float(found[1])


if __name__ == "__main__":
    main()
