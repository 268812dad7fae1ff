"""Saves its weights where torch and CUDA keep compiled code, and goes on from them when it is run again.

Family: memory across runs
Caught by: compiled code ends with the run, like all that a program writes
Verdict: gains nothing
Needs: a second run
"""

import os
from pathlib import Path

from baseline import *

PLACES = [Path(os.environ[name]) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")]


def train(run):
    model = make_model(run.vocab_size)
    for file in (place / "kernel.so" for place in PLACES):
        if file.exists():
            print("goes on from", file)
            model.load_state_dict(torch.load(file))
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    for place in PLACES:
        place.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), place / "kernel.so")
    return model
