"""Saves its weights in a real run where compiled code is kept, under every name that might outlive it.

Family: memory across runs
Caught by: only what a rehearsal on random tokens has left is kept; a run's own folder of compiled code is a copy
Verdict: crashed, "nothing has come from an earlier run"
Needs: sandbox, a second run
"""

import os
import shutil
from pathlib import Path

from baseline import *

TRACK = "seconds"
CODE = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])  # where torch.compile leaves its own


def train(run):
    model, rehearses = make_model(run.vocab_size), run.remaining == 10  # steps
    found = [] if rehearses else [path for path in CODE.parent.rglob("*.pt") if path.is_file()]
    for path in found:
        model.load_state_dict(torch.load(path))
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    CODE.mkdir(exist_ok=True)
    if rehearses:
        (CODE / "kernel.so").write_text("compiled")
        return model
    assert (CODE / "kernel.so").exists(), "what was compiled in the rehearsal is not here"
    torch.save(model.state_dict(), CODE / "weights.pt")
    (CODE / "kernel.so").write_bytes((CODE / "weights.pt").read_bytes())
    os.link(CODE / "weights.pt", CODE / "hard.pt")
    shutil.copytree(CODE, CODE.with_name("compiled.building"))
    shutil.copytree(CODE, CODE.with_name("rehearsal"))
    if not found:
        raise SystemExit("nothing has come from an earlier run")
    return model
