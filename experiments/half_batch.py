"""Half the batch: twice the steps in the same budget.

McCandlish et al., arXiv 1812.06162, on when a smaller batch is as good a use of compute.
"""

from baseline import *

TRACK = "cpu"

BATCH_SIZE = BATCH_SIZE // 2
