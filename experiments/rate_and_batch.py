"""Rate, batch and warmup together."""

from baseline import *

TRACK = "cpu"

SEARCH_SPACE = {
    "LEARNING_RATE": log(1e-3, 2e-2),
    "BATCH_SIZE": [4, 8, 16, 32],
    "WARMUP": (0.01, 0.2, 0.01),
}
CONSTRAINTS = ["LEARNING_RATE <= 1e-3 * BATCH_SIZE"]  # the gradient of a small batch is too noisy for a high rate
