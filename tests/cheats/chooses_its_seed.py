"""Seeds torch with the luckiest of many numbers that were tried before.

Family: seeds
Caught by: a call that seeds with something fixed is refused before anything runs
Verdict: disqualified, "random numbers must come from run.seed"
"""

from baseline import *

honest = make_model


def make_model(vocab_size):
    torch.manual_seed(42)
    return honest(vocab_size)
