"""The learning rate falls as 1 - √ of the warm-down's progress: fast at first, then slowly.

Hägele et al., arXiv 2405.18392.
"""

from baseline import *

TRACK = "cuda"


def schedule(progress: float) -> float:
    """Factor on every learning rate, for `progress` from 0 to 1."""
    done = max(0.0, 1.0 - (1.0 - progress) / WARMDOWN)
    return FINAL_LR + (1 - FINAL_LR) * (1 - math.sqrt(done))
