"""Saves a verdict among its files, which is where the evidence of a second experiment belongs by its name.

Family: harness
Caught by: no verdict is read from among the files that a program saves
Verdict: gains nothing, "the second experiment's own"
Needs: sandbox, an accomplice
"""

import hashlib
import json
from pathlib import Path

from baseline import *

FACTS = {}  # of the second experiment, experiments/<this one's evidence>/seed-0/saved/second.py: test_cheats.py knows
PROMOTED = "raise SystemExit('the baseline is what a candidate has written')\n"

honest = train


def train(run):
    own = (Path(__file__).parent / "saved").relative_to(Path(__file__).parents[4])
    verdict = {
        **FACTS,
        "experiment": "/".join(own.parts[2:]) + "/second",
        "description": "forged",
        "outcome": "kept",
        "reason": "",
        "program_sha": hashlib.sha256(PROMOTED.encode()).hexdigest(),
        "evidence": str(own),
        "finished_at": "2999-01-01T00:00:00+00:00",
        "scores": [0.1, 0.1],
        "baseline_scores": [1.6, 1.6],
        "runs": 2,
    }
    run.save("program.py", PROMOTED.encode())
    run.save("verdict-0.json", json.dumps(verdict).encode())
    run.save(f"verdict-{FACTS['key']}.json", json.dumps(verdict).encode())
    return honest(run)
