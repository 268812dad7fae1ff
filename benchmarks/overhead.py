"""What a run takes that is neither training nor scoring.

    .venv/bin/python benchmarks/overhead.py [--track cuda] [--project FOLDER] [--budget "60 s"] [--experiment deeper]

Two sessions of pytest judge the same experiment with one seed. Of each run: all of its seconds, less those charged for
training and those of scoring. Every run compiles for itself, so the sessions differ only by chance. Works on a copy of
the project.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=ROOT)
    parser.add_argument("--track", default="cuda")
    parser.add_argument("--budget", default="60 s")
    parser.add_argument("--experiment", default="deeper")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        project = Path(folder)
        for name in ("baseline", "experiments"):
            shutil.copytree(options.project / name, project / name)
        (project / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "experiments", "-k", options.experiment, "--ar-track", options.track]
        command += ["--ar-budget", options.budget, "--ar-seeds", "1", "--ar-rerun", "--ar-record"]
        overheads = []
        for session in ("first", "second"):
            began = time.perf_counter()
            output = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, text=True).stdout
            wall = time.perf_counter() - began
            runs = {path.parts[-3].rpartition("-")[0]: path for path in project.glob("results/*/*/seed-0/result.json")}
            if set(runs) != {"baseline", options.experiment}:
                sys.exit(output)
            if session == "first":
                print(*(line for line in output.splitlines() if line.startswith("autoresearch:")), sep="\n")
            overhead = 0.0
            for name, path in runs.items():
                run = json.loads(path.read_text())
                if run["failure"]:
                    sys.exit(f"{name}: {run['failure']}: {run['reason']}")
                training = run["spent"] if options.budget.rstrip().endswith(" s") else run["training_seconds"]
                overhead = run["seconds"] - training - run["scoring_seconds"]
                print(
                    f"{session} session, {name}: {run['seconds']:.1f} s, of which {training:.1f} s training, "
                    f"{run['scoring_seconds']:.1f} s scoring, {overhead:.1f} s neither; {run['memory_gb']:.1f} GB "
                    f"(the referee {run['referee_memory_gb']:.1f} GB), isolation: {run['isolation']}"
                )
            overheads.append(overhead)
            print(f"{session} session: {wall:.1f} s in all, pytest itself included")
    print(f"second over first: {overheads[1] / overheads[0]:.2f}")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "160")
    main()
