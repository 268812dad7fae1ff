"""Sets the random state to a lucky one without a call that looks like seeding.

Family: seeds
Caught by: training must begin with other random states for another seed
Verdict: disqualified, "the same random numbers for seed 1 as for another"
Needs: two seeds
"""

from baseline import *

honest = make_model
LEARNING_RATE = LEARNING_RATE * 4  # better, so that a second seed is asked for


def make_model(vocab_size):
    getattr(torch, "manual_" + "seed")(42)
    return honest(vocab_size)
