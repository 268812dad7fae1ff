"""Leaves folders in folders, deeper than Python recurses, where the harness is to look for compiled code.

Family: harness
Caught by: nothing that walks a folder of the program's goes deeper than it can
Verdict: crashed, "the session has survived"
Needs: sandbox
"""

import os
from pathlib import Path

from baseline import *

TRACK = "seconds"
CODE = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])  # where torch.compile leaves its own

honest = train


def bury():
    here = Path.cwd()
    CODE.mkdir(exist_ok=True)
    os.chdir(CODE)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)


def train(run):
    rehearses = run.remaining == 10  # steps
    model = honest(run)
    bury()
    if not rehearses:
        raise SystemExit("the session has survived")
    return model
