"""Says its score when it is asked for logits.

Family: harness
Caught by: the referee computes the score; no message says one
Verdict: disqualified, "sent an unreadable message"
"""

import os
import sys

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def answer(tokens):
        os.write(int(sys.argv[1]), b'{"event": "scored", "val_bpb": 0.1, "memory": 0}\n')
        return model(tokens)

    return answer
