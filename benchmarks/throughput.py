"""Throughput, MFU and memory of a track's baseline: steps on random tokens, and the same model served for scoring.

    .venv/bin/python benchmarks/throughput.py [--track cuda] [--steps 30] [--change DEPTH=8]

MFU is the share of a device's matmul rate that the model's own arithmetic takes: 6 flop for each weight that multiplies
and each token, and those of attention as far as the windows reach (PaLM, arXiv 2204.02311, appendix B), nothing that is
computed twice. The rate is measured in the same run: a large product of bfloat16 matrices (float32 on a CPU). Next to
it stands the share of the 989 TFLOP/s that NVIDIA's data sheet says of an H100 or H200.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).resolve().parents[1]
DATA_SHEET = 989e12
WARM_UP = 5  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", default="cuda")
    parser.add_argument("--steps", type=int, default=30, help="micro-batches")
    parser.add_argument("--change", action="append", default=[], metavar="NAME=VALUE", help="another constant")
    options = parser.parse_args()
    track = read_track(ROOT / "baseline" / options.track)
    device = torch.device("cuda" if track.device == "cuda" and torch.cuda.is_available() else "cpu")
    overlay = "\n".join(["from baseline import *", *(change.replace("=", " = ") for change in options.change), ""])
    program: dict[str, Any] = {}
    exec(compile(splice(track.program_path.read_text(), overlay), "program", "exec"), program)

    run = TimedRun(device, track.vocab_size, track.sequence_length, options.steps)
    torch.manual_seed(0)
    served = program["train"](run)
    model = next(value for value in (served, getattr(served, "_orig_mod", None)) if isinstance(value, nn.Module))
    # Of the device; on a CPU of the whole process, in kilobytes as Linux counts.
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else resident
    tokens = run.tokens * (options.steps - WARM_UP) / options.steps
    rate, flop = tokens / run.seconds, flop_per_token(model, program, track.sequence_length)
    ceiling = matmul_rate(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, depth {program['DEPTH']}, {flop / 1e6:,.1f} MFLOP a token")
    print(f"first step {run.first_step:.1f} s, then {rate:,.0f} tokens/s, {rate * flop / 1e12:,.2f} TFLOP/s")
    print(f"MFU {rate * flop / ceiling:.1%} of the {ceiling / 1e12:,.2f} TFLOP/s of one large product")
    if device.type == "cuda":
        print(f"MFU {rate * flop / DATA_SHEET:.1%} of the {DATA_SHEET / 1e12:.0f} TFLOP/s of the data sheet")
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    print(f"peak memory in training {peak / 1e9:.2f} GB, {peak / weights:,.0f} times the weights")
    seconds = per_call(lambda: serve(served, track.batch_size, run), device)
    scored = track.batch_size * track.sequence_length / seconds
    print(f"served {scored:,.0f} tokens/s: {track.eval_tokens / scored:.1f} s for {track.eval_tokens:,}, loss left out")


class TimedRun(SimpleNamespace):
    """A `Run` that hands out random tokens, and times what follows the first steps."""

    def __init__(self, device: torch.device, vocab_size: int, sequence_length: int, steps: int) -> None:
        super().__init__(device=device, seed=0, vocab_size=vocab_size, sequence_length=sequence_length)
        self.steps, self.tokens, self.progress = steps, 0, 0.0
        self.first_step = self.seconds = 0.0

    def batches(self, batch_size: int) -> Any:
        shape = batch_size, self.sequence_length + 1
        batch = torch.randint(self.vocab_size, shape, device=self.device)
        began = time.perf_counter()
        for step in range(self.steps):
            self.progress = step / self.steps
            yield batch[:, :-1], batch[:, 1:]
            self.tokens += batch[:, 1:].numel()
            if step in (0, WARM_UP - 1):
                finish(self.device)
            if step == 0:
                self.first_step = time.perf_counter() - began
            if step == WARM_UP - 1:
                began = time.perf_counter()
        finish(self.device)
        self.seconds = time.perf_counter() - began

    def log(self, loss: torch.Tensor, **scalars: Any) -> None:
        float(loss.detach())


def flop_per_token(model: nn.Module, program: dict[str, Any], length: int) -> float:
    """Forward and backward: 6 for each weight of a linear layer; of attention what lies in each block's window."""
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    short = min(length, int(program.get("SHORT_WINDOW", 1) * length))
    windows = [length if mask is None else short for mask in getattr(model, "masks", [None] * program["DEPTH"])]
    seen = sum(window - window * (window - 1) / 2 / length for window in windows)  # keys to a query, on average
    heads = program["HEADS"] * program.get("HEAD_DIM", program["WIDTH"] // program["HEADS"])
    return 6 * weights + 12 * heads * seen


def serve(served: Callable[[torch.Tensor], torch.Tensor], batch_size: int, run: TimedRun) -> None:
    tokens = torch.randint(run.vocab_size, (batch_size, run.sequence_length), device=run.device)
    with torch.no_grad():
        served(tokens)


def matmul_rate(device: torch.device) -> float:
    """Flop in a second of the product of two matrices of random numbers."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / per_call(lambda: a @ b, device)


def per_call(function: Callable[[], object], device: torch.device, seconds: float = 2.0) -> float:
    """Seconds that a call takes, the median of single ones after three that are not timed."""
    for _ in range(3):
        function()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        finish(device)
        began = time.perf_counter()
        function()
        finish(device)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
