"""Takes a step of training on each batch of held-out tokens once it has answered.

Family: evaluation state
Caught by: a decoy and its source must get the same answers up to a cut
Verdict: disqualified, "the same tokens got other logits on a second look"
"""

from baseline import *

honest = train


def train(run):
    model = honest(run)

    def adapt(tokens):
        logits = model(tokens)
        with torch.enable_grad():
            for _ in range(5):
                learn(model, tokens[:, :-1], tokens[:, 1:])
        return logits

    return adapt
