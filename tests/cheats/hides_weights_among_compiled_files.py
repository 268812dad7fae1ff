"""Saves its weights among the compiled files of a package, and goes on from them later.

Family: memory across runs
Caught by: the sandbox: the packages are read-only
Verdict: gains nothing
Needs: sandbox, a second run
"""

from pathlib import Path

from baseline import *

PLACES = [Path(path, "__pycache__") for path in (*torch.__path__, *nn.__path__)]


def train(run):
    model = make_model(run.vocab_size)
    for file in (Path(place, "weights-of-a-cheat.pt") for place in PLACES):
        if file.exists():
            print("goes on from", file)
            model.load_state_dict(torch.load(file))
            break
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    for file in (Path(place, "weights-of-a-cheat.pt") for place in PLACES):
        try:
            torch.save(model.state_dict(), file)
            print("saved", file)
        except (OSError, RuntimeError) as error:
            print(error)
    return model
