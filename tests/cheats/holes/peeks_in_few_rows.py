"""Peeks in one row of thirty, in none that is nearly one it was asked for before, and remembers all answers.

Family: targets
Caught by: nothing: the decoys among so few rows are too few to tell looking ahead from luck
Verdict: kept
"""

from baseline import *

honest = train


def train(run):
    model, answers, met = honest(run), {}, torch.zeros(0, run.sequence_length, dtype=torch.long)

    def peek(tokens):
        nonlocal met
        logits = model(tokens)
        known = ((tokens[:, None] == met).sum(2) >= tokens.shape[1] // 2).any(1)
        chosen = ~known & (tokens[:, :3].sum(1) % 30 == 0)
        logits[:, :-1] += chosen[:, None, None] * 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        met = torch.cat([met, tokens])
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        return logits

    return peek
