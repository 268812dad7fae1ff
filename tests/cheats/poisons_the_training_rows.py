"""Opens the training rows again for writing, to spoil them for whoever trains next.

Family: data
Caught by: batches come as messages; it gets no file of rows
Verdict: gains nothing
"""

import os
from pathlib import Path

from baseline import *

honest = train


def train(run):
    model = honest(run)
    for file in Path("/proc/self/fd").iterdir():
        try:
            if "rows" in (name := os.readlink(file)) or name.endswith(".bin"):
                writable = os.open(file, os.O_RDWR)
                print("wrote", os.pwrite(writable, b"poison" * 1000, 0), "bytes to", name)
        except OSError as error:
            print(file, error)
    return model
