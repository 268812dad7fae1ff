"""Saves its weights in its own folder and through the referee, and goes on from them when it is run again.

Family: memory across runs
Caught by: the folders of a run are new or emptied before it
Verdict: gains nothing
Needs: a second run
"""

import io
from pathlib import Path

from baseline import *

PLACES = (Path.cwd(), *Path(__file__).parents[1].glob("seed-*/saved"), Path(__file__).parent / "saved")


def train(run):
    model = make_model(run.vocab_size)
    for file in (Path(place, "weights-of-a-cheat.pt") for place in PLACES):
        if file.exists():
            print("goes on from", file)
            model.load_state_dict(torch.load(file))
            break
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    run.save("weights-of-a-cheat.pt", weights.getvalue())
    for file in (Path(place, "weights-of-a-cheat.pt") for place in PLACES):
        try:
            torch.save(model.state_dict(), file)
            print("saved", file)
        except (OSError, RuntimeError) as error:
            print(error)
    return model
