"""A/A test: experiments that change nothing but the random numbers, judged for real. Each one kept is a false keep.

    .venv/bin/python benchmarks/aa_test.py [--experiments 40] [--first 1] [--folder FOLDER] [pytest options]

Each experiment draws some random numbers before the weights are drawn, so that it trains the baseline's own program
from other weights. pytest judges all of them in one session, on a copy of the track, and promotes none. The script
prints how many were kept, and the standard deviation of a paired difference: the value for `noise` in `[verdict]`. An
experiment takes about 40 s on the cpu track. A second call with the same folder goes on where the first one ended.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, variance

ROOT = Path(__file__).parents[1]
EXPERIMENT = '''"""Nothing but luck: {draws} random numbers are drawn before the weights."""
from baseline import *

torch.rand({draws})
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--experiments", type=int, default=40, help="how many (default: 40)")
    parser.add_argument("--first", type=int, default=1, help="number of the first: others are other luck (default: 1)")
    parser.add_argument("--folder", type=Path, help="where the copy of the project stays (default: thrown away)")
    parser.add_argument("--track", default="cpu")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = arguments.folder or Path(temporary)
        make_project(project, arguments.track, range(arguments.first, arguments.first + arguments.experiments))
        command = [sys.executable, "-m", "pytest", "experiments", "--ar-track", arguments.track, "--ar-no-promote"]
        subprocess.run([*command, "-p", "no:cacheprovider", "-W", "ignore", *rest], cwd=project, check=False)
        report(project, arguments.track)


def make_project(project: Path, track: str, numbers: range) -> None:
    if not (project / "baseline").exists():
        shutil.copytree(ROOT / "baseline" / track, project / "baseline" / track)
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "experiments").mkdir(exist_ok=True)
    for number in numbers:
        path = project / f"experiments/luck_{number:02}.py"
        path.write_text(EXPERIMENT.format(draws=1009 * number), encoding="utf-8")


def report(project: Path, track: str) -> None:
    """False keeps, and the spread of paired differences where nothing but the luck differs."""
    verdicts = [json.loads(path.read_text()) for path in project.glob(f"results/{track}/luck_*/verdict-*.json")]
    kept = [verdict["experiment"] for verdict in verdicts if verdict["outcome"] == "kept"]
    runs = sum(len(verdict["stats"]["val_bpb"]) for verdict in verdicts)
    print(f"kept {len(kept)} of {len(verdicts)} that change nothing but the luck, in {runs} runs: {kept}")
    by_seed: dict[int, list[float]] = {}
    for verdict in verdicts:
        for seed, score in enumerate(verdict["stats"]["val_bpb"]):
            by_seed.setdefault(seed, []).append(score)
    baseline = max((verdict["baseline_scores"] for verdict in verdicts), key=len)
    for seed, scores in by_seed.items():
        if len(scores) > 1:
            print(
                f"seed {seed}: baseline {baseline[seed]:.4f}, {len(scores)} others "
                f"{fmean(scores):.4f} ± {math.sqrt(variance(scores)):.4f}, {min(scores):.4f} to {max(scores):.4f}"
            )
    spread = [(variance(scores), len(scores) - 1) for scores in by_seed.values() if len(scores) > 1]
    if df := sum(n for _, n in spread):
        luck = math.sqrt(sum(v * n for v, n in spread) / df)
        print(f"standard deviation of a paired difference: {math.sqrt(2) * luck:.4f} ({df} degrees of freedom)")


if __name__ == "__main__":
    main()
