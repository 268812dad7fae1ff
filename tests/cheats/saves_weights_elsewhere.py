"""Saves its weights wherever it can write, and goes on from them when it is run again.

Family: memory across runs
Caught by: the sandbox: what is written there ends with the run
Verdict: gains nothing
Needs: sandbox, a second run
"""

from pathlib import Path

from baseline import *

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", Path.home(), Path(__file__).parent, Path(__file__).parents[4])


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
