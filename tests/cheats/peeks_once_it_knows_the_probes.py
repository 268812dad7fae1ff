"""Is honest until it has met the first probe, then in rows like those that it has met, and peeks in all others.

Remembers all its answers, so that second looks agree.

Family: targets
Caught by: decoys come in every request, and rows must not fare better the later they are asked for
Verdict: disqualified, "it learned from held-out text" or "logits depend on tokens that come later"
"""

from baseline import *

honest = train
FIRST = 5  # requests, among which there is a probe


def train(run):
    model, requests, answers = honest(run), 0, {}
    met = torch.zeros(0, run.sequence_length, dtype=torch.long)

    def peek(tokens):
        nonlocal requests, met
        logits = model(tokens)
        requests += 1
        if requests > FIRST:
            known = ((tokens[:, None] == met).sum(2) >= tokens.shape[1] * 3 // 4).any(1)
            logits[:, :-1] += ~known[:, None, None] * 12.0 * F.one_hot(tokens[:, 1:], logits.shape[-1])
        met = torch.cat([met, tokens])
        for row, places in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                places[place] = answers.setdefault(tuple(row[: place + 1]), places[place].clone())
        return logits

    return peek
