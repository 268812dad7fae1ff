"""How near the samplers of sweeps come to the best point of a made-up bowl, and what they take.

    .venv/bin/python benchmarks/samplers.py [--sweeps 20] [--gp-sweeps 4]

Each sweep is a study of its own, as pytest has it, with 30 points over three constants: one logarithmic, one uniform,
one a choice. What the sampler sees has the noise of real scores. Printed is the mean distance (val_bpb) of the best
point so far from the best there is.
"""

import argparse
import math
import random
import tempfile
import time
from pathlib import Path
from statistics import fmean

from filelock import FileLock
from tabulate import tabulate

from pytest_autoresearch.core.track import digest
from pytest_autoresearch.programs.search_space import read_search_space
from pytest_autoresearch.research.study import Study

SPACE = 'SEARCH_SPACE = {"RATE": log(1e-4, 1e-1), "WARMUP": (0.0, 0.5), "BATCH": [8, 16, 32, 64]}'
POINTS, NOISE = 30, 0.005


def distance(values: dict[str, float]) -> float:
    """val_bpb above the best: a bowl around RATE 0.005 and WARMUP 0.12, with BATCH 16."""
    bowl = 0.3 * math.log10(values["RATE"] / 0.005) ** 2 + 2 * (values["WARMUP"] - 0.12) ** 2
    return bowl + {8: 0.06, 16: 0.0, 32: 0.04, 64: 0.15}[values["BATCH"]]


def sweep(sampler: str, seed: int, folder: Path) -> list[float]:
    """The distance of the best point so far, after each point."""
    space = read_search_space(Path("sweep.py"), SPACE)
    constants = {"RATE": 1e-2, "WARMUP": 0.4, "BATCH": 64}
    study = Study(
        folder / f"{sampler}.journal",
        str(seed),
        space,
        constants,
        sampler,
        lambda name: FileLock(folder / digest(name)),
    )
    noise, best = random.Random(seed), [math.inf]
    for number in range(1, POINTS + 1):
        with study.point(number) as point:
            far = distance(point.values)
            study.end(number, far + noise.gauss(0, NOISE))
        best.append(min(best[-1], far))
    return best[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=20, metavar="N")
    parser.add_argument("--gp-sweeps", type=int, default=4, metavar="N", help="gp takes seconds for each")
    options = parser.parse_args()
    rows = []
    for sampler in ("random", "tpe", "gp"):
        with tempfile.TemporaryDirectory() as folder:
            count = options.gp_sweeps if sampler == "gp" else options.sweeps
            begun = time.process_time()
            sweeps = [sweep(sampler, seed, Path(folder)) for seed in range(count)]
            means = [fmean(best[after - 1] for best in sweeps) for after in (10, 20, POINTS)]
            rows.append([sampler, count, *means, (time.process_time() - begun) / count])
    headers = ["sampler", "sweeps", "after 10", "after 20", f"after {POINTS}", "CPU s a sweep"]
    print(tabulate(rows, headers=headers, tablefmt="github", floatfmt=("", "", ".4f", ".4f", ".4f", ".1f")))


if __name__ == "__main__":
    main()
