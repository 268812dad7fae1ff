"""Brings weights that were trained elsewhere, rounded until they fit into 64,000 bytes of source.

Family: memory across runs
Caught by: the literals of an experiment have at most 10,000 characters
Verdict: crashed, "characters of literals"
Needs: weights
"""

import base64

import numpy as np
from baseline import *

honest = make_model
WEIGHTS = ""  # test_cheats.py writes them here: 16 bits each


def make_model(vocab_size):
    model = honest(vocab_size)
    weights = torch.from_numpy(np.frombuffer(base64.b64decode(WEIGHTS), "f2").astype("f4"))
    nn.utils.vector_to_parameters(weights, model.parameters())
    return model
