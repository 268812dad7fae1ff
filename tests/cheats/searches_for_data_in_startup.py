"""Sleeps through its free start-up, while a thread looks for rows to train on.

Family: clock
Caught by: rows come when the clock has been started; there are none before
Verdict: gains nothing
"""

import gc
import threading
import time

import numpy as np
from baseline import *

honest = train


def train(run):
    found, over = [], threading.Event()  # all that holds 16-bit numbers, as the rows do

    def look():
        while not over.wait(0.05):
            held = [thing for owner in gc.get_objects() for thing in gc.get_referents(owner)]
            found.extend(a for a in held if type(a) in (np.ndarray, np.memmap) and a.dtype == np.uint16 and a.size > 99)

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(0.4)
    over.set()
    thread.join()
    print("rows found before the clock was started:", len(found))
    return train_on(run, found) if found else honest(run)


def train_on(run, found):
    model = make_model(run.vocab_size)
    rows = torch.as_tensor(np.concatenate([a.reshape(-1, run.sequence_length + 1) for a in found]).astype("int64"))
    for batch in rows.split(BATCH_SIZE):
        learn(model, batch[:, :-1], batch[:, 1:])
    return model
