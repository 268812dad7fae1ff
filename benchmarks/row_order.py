"""Whether the order in which rows are asked for moves the logits of the cpu track's baseline.

    .venv/bin/python benchmarks/row_order.py [--orders 20]

256 rows are asked for in batches of 64, in random orders, with one thread and with two. The model is trained for a few
steps on random tokens, so that no weight is zero. Prints how many logits differ from those of the first order.
"""

import argparse
import sys
import types
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

PROGRAM = Path(__file__).resolve().parents[1] / "baseline/cpu/train.py"
VOCAB, LENGTH, ROWS, BATCH = 1024, 128, 256, 64


def moved_logits(orders: int, threads: int) -> int:
    """How many logits of all orders differ from those of the first."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    program = types.ModuleType("program")
    sys.modules["program"] = program
    exec(compile(PROGRAM.read_text(encoding="utf-8"), str(PROGRAM), "exec"), program.__dict__)
    model = program.GPT(VOCAB, LENGTH)
    program.init_weights(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    rows = torch.randint(VOCAB, (ROWS, LENGTH))
    for batch in rows.split(16):
        F.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def asked_in(order: Tensor) -> Tensor:
        logits = torch.empty(ROWS, LENGTH, VOCAB)
        for some in order.split(BATCH):
            logits[some] = model(rows[some])
        return logits

    first = asked_in(torch.arange(ROWS))
    return sum(int((asked_in(torch.randperm(ROWS)) != first).sum()) for _ in range(orders))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=20)
    orders = parser.parse_args().orders
    for threads in (1, 2):
        moved = moved_logits(orders, threads)
        print(f"{threads} thread{'s' * (threads > 1)}: {moved} of {orders * ROWS * LENGTH * VOCAB} logits moved")


if __name__ == "__main__":
    main()
