"""Looks for held-out rows in all that its own process holds: arrays, tensors, open files.

Family: data
Caught by: held-out targets never reach its process
Verdict: gains nothing
"""

import gc
import mmap
import os
from pathlib import Path

import numpy as np
from baseline import *

honest = train
KINDS = "u2", "i8"  # as rows are kept, and as they are computed with


def train(run):
    draw, known = run._draw, set()

    def draw_and_note(wanted):
        rows, progress = draw(wanted)
        known.update(map(bytes, np.frombuffer(rows, "u2").reshape(-1, run.sequence_length + 1).astype("i8")))
        return rows, progress

    run._draw = draw_and_note
    model = honest(run)
    things = {id(thing): thing for owner in gc.get_objects() for thing in gc.get_referents(owner)}.values()
    held = [a for a in things if type(a) in (np.ndarray, np.memmap) and a.dtype.kind in "iu"]
    held += [t.numpy() for t in things if type(t) is torch.Tensor and t.dtype == torch.int64]
    held += [np.frombuffer(m, kind, len(m) // int(kind[1])) for m in things if type(m) is mmap.mmap for kind in KINDS]
    for file in Path("/proc/self/fd").iterdir():
        try:
            if int(file.name) > 2:
                held += [np.frombuffer(os.pread(int(file.name), 1 << 20, 0), kind) for kind in KINDS]
        except (OSError, ValueError):
            continue
    width, rows = run.sequence_length + 1, []
    for numbers in (a.ravel() for a in held if a.size >= width):
        blocks = numbers[: numbers.size // width * width].reshape(-1, width).astype("i8")
        rows += [row.tolist() for row in blocks if 0 < row.max() < run.vocab_size and bytes(row) not in known]
    print("rows that are not of the training text:", len(rows))
    return knowing(model, rows)


def knowing(model, rows):
    """The model, sure of what follows each beginning of a held-out row."""
    text = {tuple(row[:place]): row[place] for row in rows for place in range(1, len(row))}
    print("prefixes known:", len(text))

    def answer(tokens):
        logits = model(tokens)
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                if (known := text.get(tuple(row[: place + 1]))) is not None:
                    places[place, known] += 12.0
        return logits

    return answer
