"""Says its score when it is asked for logits, as a candidate does where no memory can be shared.

Family: harness
Caught by: how logits come is the referee's choice, and where they are to come it takes no score
Verdict: disqualified, "sent an unexpected message"
"""

from baseline import *

honest = train


def train(run):
    say, model = run._send, honest(run)

    def answer(tokens):
        say({"event": "scored", "val_bpb": 0.1, "memory": 0})
        return model(tokens)

    return answer
