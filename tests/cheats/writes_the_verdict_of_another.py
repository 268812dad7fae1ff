"""Writes a verdict into its own folder, which is where the evidence of a second experiment belongs by its name.

Family: harness
Caught by: no verdict is read from a folder that a program can write to
Verdict: gains nothing, "the second experiment's own"
Needs: sandbox, an accomplice
"""

import hashlib
import json
from pathlib import Path

from baseline import *

FACTS = {}  # of the second experiment, experiments/<this one's evidence>/seed-0/files/second.py: test_cheats.py knows
PROMOTED = "raise SystemExit('the baseline is what a candidate has written')\n"

honest = train


def train(run):
    own = Path.cwd().relative_to(Path(__file__).parents[4])
    folder = own / "second-0000000"
    verdict = {
        **FACTS,
        "experiment": "/".join(own.parts[2:]) + "/second",
        "description": "forged",
        "outcome": "kept",
        "reason": "",
        "program_sha": hashlib.sha256(PROMOTED.encode()).hexdigest(),
        "evidence": str(folder),
        "finished_at": "2999-01-01T00:00:00+00:00",
        "scores": [0.1, 0.1],
        "baseline_scores": [1.6, 1.6],
        "runs": 2,
    }
    Path("second-0000000/seed-0").mkdir(parents=True)
    Path("second-0000000/seed-0/program.py").write_text(PROMOTED)
    Path("second-0000000/verdict-0.json").write_text(json.dumps(verdict))
    return honest(run)
