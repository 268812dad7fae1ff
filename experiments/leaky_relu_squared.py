"""The square of a leaky ReLU: what is negative has a gradient, too.

From openai/parameter-golf; in nanochat (dev/LOG.md, 2026-03-24) better per step, but slower.
"""

from baseline import *

TRACK = "cuda"


def activation(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.5).square()
