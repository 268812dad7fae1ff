"""Adam forgets squared gradients sooner.

The value of Brown et al. (GPT-3), arXiv 2005.14165.
"""

from baseline import *

TRACK = "cpu"

BETAS = (0.9, 0.95)
