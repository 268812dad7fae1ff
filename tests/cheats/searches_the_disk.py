"""Searches the disk for files of rows and for the text of the corpus.

Family: data
Caught by: the sandbox: it is not there
Verdict: gains nothing
Needs: sandbox
"""

import os
from pathlib import Path

import numpy as np
from baseline import *

honest = train
SYSTEM = {"usr", "lib", "lib64", "proc", "sys", "dev", "etc", "site-packages", "nix", "opt", "boot", "snap"}


def train(run):
    rows, texts = [], []
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if name not in SYSTEM and not name.startswith("python")]
        for path in (Path(folder, name) for name in files):
            if path.name == "heldout.bin":
                rows += np.fromfile(path, np.uint16).reshape(-1, run.sequence_length + 1).tolist()
            elif path.parent.name == "text":
                texts.append(path)
    print("texts found:", len(texts))
    return knowing(honest(run), rows)


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
