"""Windows, batch and rates: a random search that changes two to four of them (--ar-sampler random)."""

from baseline import *

TRACK = "cuda"

# karpathy/autoresearch PR #44 tuned most of them one at a time, each with those before it fixed.
SEARCH_SPACE = {
    "WINDOW_PATTERN": ["L", "SL", "SSL", "SSSL", "SSSSL"],
    "SHORT_WINDOW": [1 / 16, 1 / 8, 1 / 4],
    "TOTAL_BATCH_SIZE": [2**17, 2**18, 2**19],  # tokens
    "MATRIX_LR": log(0.01, 0.1),
    "RESIDUAL_LR": log(0.001, 0.02),
    "X0_LR": log(0.1, 1.0),
    "WARMDOWN": (0.5, 0.9, 0.05),
}
CONSTRAINTS = [
    "TOTAL_BATCH_SIZE % (BATCH_SIZE * SEQUENCE_LENGTH) == 0",  # whole micro-batches
    "MATRIX_LR <= 0.04 or TOTAL_BATCH_SIZE >= 2**18",  # a higher rate only with a batch that is not smaller
]
VARY = (2, 4)
