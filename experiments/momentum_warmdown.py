"""Muon's momentum falls together with the learning rate.

nanochat (a825e63), found there by autoresearch.
"""

from baseline import *

TRACK = "cuda"

LAST_MOMENTUM = 0.88  # lower by what nanochat's falls, 0.97 to 0.90


def momentum_schedule(step: int, progress: float) -> float:
    first, last = MOMENTUM
    rising = first + (last - first) * min(1.0, step / MOMENTUM_WARMUP)
    falling = LAST_MOMENTUM + (last - LAST_MOMENTUM) * min(1.0, (1.0 - progress) / WARMDOWN)
    return min(rising, falling)
