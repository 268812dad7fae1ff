"""Squared ReLU instead of GELU.

So et al. (Primer), arXiv 2109.08668.
"""

from baseline import *

TRACK = "cpu"


def activation(x: Tensor) -> Tensor:
    return F.relu(x).square()
