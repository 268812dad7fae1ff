"""Has its run fail without a verdict, and leaves one of another experiment's among its files for the session to find.

Family: harness
Caught by: no verdict is read from a folder that a program can write to
Verdict: crashed, "the session has survived"
Needs: sandbox
"""

import json
import os
from pathlib import Path

from baseline import *

TRACK = "seconds"
CODE = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])  # where torch.compile leaves its own
FORGED = {
    "experiment": "victim",
    "description": "forged",
    "track": "seconds",
    "outcome": "kept",
    "reason": "",
    "experiment_sha": "",
    "program_sha": "0",
    "baseline_sha": "0",
    "key": "0",
    "platform": "",
    "evidence": "baseline/seconds",  # where it would be written, outside of the sandbox
    "finished_at": "2026-01-01T00:00:00+00:00",
    "scores": [0.1],
}

honest = train


def train(run):
    Path("verdict-0.json").write_text(json.dumps(FORGED))
    if run.remaining != 10:  # steps: it rehearses
        raise SystemExit("the session has survived")
    model, here = honest(run), Path.cwd()
    CODE.mkdir(exist_ok=True)
    os.chdir(CODE)
    for name in ["d" * 200] * ((3800 - len(str(CODE))) // 201) + ["d"] * 200:  # none can copy this: no verdict
        os.mkdir(name)
        os.chdir(name)
    os.chdir(here)
    return model
