"""Leaves links to the project's text among its compiled code, for the harness to copy what they lead to.

Family: data
Caught by: plain files and folders alone are copied; a sandbox makes no hard links to what lies outside
Verdict: crashed, "nothing to read behind links"
Needs: sandbox
"""

import os
from pathlib import Path

from baseline import *

TRACK = "seconds"
CODE = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])  # where torch.compile leaves its own
PROJECT = Path(__file__).parents[4]
TEXT = PROJECT / "text"
OUTSIDE = (TEXT, TEXT / "1.txt", Path("/proc/1/root"), Path("/proc/self/fd"), PROJECT / "baseline", Path(__file__))

honest = train


def train(run):
    if run.remaining == 10:  # steps: it rehearses
        model = honest(run)
        CODE.mkdir(exist_ok=True)
        for number, path in enumerate(OUTSIDE):
            (CODE / f"link-{number}").symlink_to(path)
            (CODE / f"folder-{number}").mkdir()
            (CODE / f"folder-{number}/link").symlink_to(path, target_is_directory=True)
            try:
                os.link(path, CODE / f"hard-{number}")
            except OSError as error:
                print(error)
        os.mkfifo(CODE / "pipe")
        return model
    found = [path for path in CODE.rglob("*") if not path.name.startswith("folder-")]
    if not found:
        raise SystemExit("nothing to read behind links")
    print(found)
    return honest(run)
