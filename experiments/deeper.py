"""One block more: fewer steps in the same budget.

Kaplan et al., arXiv 2001.08361; Hoffmann et al., arXiv 2203.15556, on what to spend compute on.
"""

from baseline import *

DEPTH = DEPTH + 1
