"""Brings weights that were trained elsewhere, as digits in its source.

Family: memory across runs
Caught by: a source has at most 64,000 bytes
Verdict: crashed, "bytes of source"
Needs: weights
"""

import base64

import numpy as np
from baseline import *

honest = make_model
WEIGHTS = ""  # test_cheats.py writes them here: 64 bits each


def make_model(vocab_size):
    model = honest(vocab_size)
    weights = torch.from_numpy(np.frombuffer(base64.b64decode(WEIGHTS), "f8").astype("f4"))
    nn.utils.vector_to_parameters(weights, model.parameters())
    return model
