"""Sublayers start out writing nothing to the residual stream.

Bachlechner et al. (ReZero), arXiv 2003.04887; Yang et al. (muP), arXiv 2203.03466.
"""

from baseline import *

TRACK = "cpu"

RESIDUAL_STD = 0.0
