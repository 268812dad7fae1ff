"""A third wider: fewer steps in the same budget.

Kaplan et al., arXiv 2001.08361; Hoffmann et al., arXiv 2203.15556, on what to spend compute on.
"""

from baseline import *

TRACK = "cpu"

WIDTH = WIDTH * 4 // 3
HEADS = HEADS * 4 // 3
