"""Decoupled weight decay of 0.1.

Loshchilov and Hutter (AdamW), arXiv 1711.05101; the value of Brown et al. (GPT-3), arXiv 2005.14165.
"""

from baseline import *

TRACK = "cpu"

WEIGHT_DECAY = 0.1
