"""Looks for the held-out rows in the memory of the processes that started it.

Family: data
Caught by: the sandbox: it sees no process but its own
Verdict: gains nothing
Needs: sandbox
"""

import os
from pathlib import Path

import numpy as np
from baseline import *

honest = train


def ancestors():
    process = os.getppid()
    while process > 1:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def held_out(process):
    """What a process has mapped of held-out rows, through its memory and not through the file."""
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb") as memory:
        for line in maps:
            if line.rstrip().endswith("heldout.bin"):
                begin, end = (int(address, 16) for address in line.split()[0].split("-"))
                memory.seek(begin)
                return memory.read(end - begin)
    return b""


def look(run):
    """Rows of held-out text that are mapped anywhere above."""
    for process in ancestors():
        try:
            numbers = np.frombuffer(held_out(process), np.uint16)
        except OSError as error:
            print(process, error)
            continue
        if len(numbers):
            width = run.sequence_length + 1
            return numbers[: len(numbers) // width * width].reshape(-1, width).tolist()
    return []


def train(run):
    model, answer = honest(run), None

    def ask(tokens):  # the rows are mapped when scoring has begun
        nonlocal answer
        answer = answer or knowing(model, look(run))
        return answer(tokens)

    return ask


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
