"""Says at its first answer that all later ones are there, so that nothing new is waited for.

Family: evaluation state
Caught by: a decoy and its source must get the same answers up to a cut
Verdict: disqualified or gains nothing, "the same tokens got other logits" or "logits depend on"
"""

from baseline import *

honest = train


def train(run):
    model, requests = honest(run), 0

    def answer(tokens):
        nonlocal requests
        requests += 1
        if requests == 1:
            for _ in range(50):
                run._send({"event": "logits", "flop": run._count_flop(), "memory": 0})
        return model(tokens)

    return answer
