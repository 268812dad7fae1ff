"""Learning rate falls linearly to zero over the last 40 % of the budget.

Hägele et al., arXiv 2405.18392.
"""

from baseline import *

TRACK = "cpu"

WARMDOWN = 0.4  # fraction of the budget


def schedule(progress: float) -> float:
    """Factor on every learning rate, for `progress` from 0 to 1."""
    return min(1.0, progress / WARMUP, (1.0 - progress) / WARMDOWN)
