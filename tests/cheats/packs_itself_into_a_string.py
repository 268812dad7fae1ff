"""Calls itself simpler, with the baseline's program in a string.

Family: size
Caught by: names that run text make no program simpler, and a string has a token for every byte
Verdict: discarded, "is no simpler: `exec` may run or read code that is not counted"
Needs: a margin
"""

GOAL = "simplify"
train = None
exec(
    "import torch\nimport torch.nn.functional as F\nfrom torch import nn\nWIDTH = 16\nBATCH_SIZE = 8\n"
    "LEARNING_RATE = 2.0\ndef make_model(vocab_size):\n"
    "    return nn.Sequential(nn.Embedding(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size))\n"
    "def learn(model, tokens, targets):\n    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())\n"
    "    loss.backward()\n    with torch.no_grad():\n        for weights in model.parameters():\n"
    "            weights -= LEARNING_RATE * weights.grad\n            weights.grad = None\n    return loss\n"
    "def train(run):\n    model = make_model(run.vocab_size)\n    for tokens, targets in run.batches(BATCH_SIZE):\n"
    "        run.log(learn(model, tokens, targets))\n    return model\n"
)
