"""Leaves compiled code in paths so long that a copy of it has no room for its name.

Family: harness
Caught by: what cannot be copied is left out
Verdict: crashed, "the session has survived"
Needs: sandbox
"""

import os
from pathlib import Path

from baseline import *

TRACK = "seconds"
CODE = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])  # where torch.compile leaves its own

honest = train


def train(run):
    if run.remaining != 10:  # steps: it rehearses
        raise SystemExit("the session has survived")
    model, here = honest(run), Path.cwd()
    CODE.mkdir(exist_ok=True)
    os.chdir(CODE)
    for name in ["d" * 200] * ((3800 - len(str(CODE))) // 201) + ["d"] * 200:  # to 4096 and beyond
        os.mkdir(name)
        os.chdir(name)
    os.chdir(here)
    return model
