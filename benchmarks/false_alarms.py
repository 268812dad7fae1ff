"""Honest programs of many kinds, judged for real: none of them may be disqualified.

    .venv/bin/python benchmarks/false_alarms.py [--folder FOLDER] [pytest options]

The programs are those of `benchmarks/honest/`, on a copy of the track `cpu`: averages of weights, dropout, BatchNorm,
gradient accumulation, a curriculum, a cache of answers, bigrams in context, a mixture of experts, an ensemble and
bfloat16. It takes about five minutes. `--ar-sandbox off` judges them without the sandbox.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the copy of the project stays (default: thrown away)")
    options, rest = parser.parse_known_args()
    with TemporaryDirectory() as temporary:
        project = options.folder or Path(temporary)
        if not (project / "baseline").exists():
            shutil.copytree(ROOT / "baseline/cpu", project / "baseline/cpu")
            (project / "pytest.ini").write_text("[pytest]\n")
        shutil.copytree(ROOT / "benchmarks/honest", project / "experiments", dirs_exist_ok=True)
        command = [sys.executable, "-m", "pytest", "experiments", "--ar-track", "cpu", "--ar-no-promote", *rest]
        subprocess.run([*command, "-p", "no:cacheprovider", "-W", "ignore"], cwd=project, check=False)
        with (project / "results.tsv").open(encoding="utf-8", newline="") as ledger:
            lines = list(csv.DictReader(ledger, delimiter="\t"))
        bad = [line for line in lines if line["verdict"] not in ("kept", "discarded")]
        print(f"{len(lines)} verdicts, {len(bad)} of them neither kept nor discarded")
        for line in bad:
            print(line["experiment"], line["verdict"])


if __name__ == "__main__":
    main()
