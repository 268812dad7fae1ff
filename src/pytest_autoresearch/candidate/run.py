"""`Run`: all that a program's `train` receives. The candidate's side of a run; imports nothing of the referee's."""

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.candidate.batches import feed
from pytest_autoresearch.core.budget import Meter


class Diverged(BaseException):
    """The loss is NaN or infinite. Not an Exception, so that no program keeps a lost run going by accident."""


def luck() -> list[str]:
    """Digests of the states that random numbers are drawn from: torch's, NumPy's and Python's."""
    states = (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()).encode(),
        repr(random.getstate()).encode(),
    )
    return [hashlib.sha256(state).hexdigest()[:16] for state in states]


def finish_queue(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU has no queue."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Run:
    """One training of one program with one seed.

    The order of the data and every random number follow from `seed`, which the referee sets equally for the baseline
    and its candidates.
    """

    def __init__(
        self,
        *,
        device: str,
        seed: int,
        vocab_size: int,
        sequence_length: int,
        open_rows: Callable[[], np.ndarray],
        meter: Meter,
        count_flop: Callable[[], int],
        send: Callable[[dict[str, Any]], None],
    ) -> None:
        self._device = torch.device(device)
        self._seed = seed
        self._vocab_size = vocab_size
        self._sequence_length = sequence_length
        self._open_rows = open_rows
        self._rows: np.ndarray | None = None
        self._meter = meter
        self._count_flop = count_flop
        self._send = send
        self._random = np.random.default_rng(seed)
        self._progress = 0.0

    @property
    def device(self) -> torch.device:
        """Where the model and the batches live."""
        return self._device

    @property
    def seed(self) -> int:
        """Seeds torch, NumPy and `random` before the program is imported; set by the referee."""
        return self._seed

    @property
    def vocab_size(self) -> int:
        """Number of tokens; logits are (B, T, vocab_size)."""
        return self._vocab_size

    @property
    def sequence_length(self) -> int:
        """T of the track: the length that the model is scored at."""
        return self._sequence_length

    @property
    def progress(self) -> float:
        """Spent share of the budget as of the current batch: 0 at the first, towards 1 at the last.

        It never falls, but for the first ten batches on a GPU, as long as nobody can tell training from compilation.
        """
        if self._meter.warms_up:
            return self._meter.progress
        self._progress = max(self._progress, self._meter.progress)
        return self._progress

    @property
    def remaining(self) -> float:
        """What is left of the budget, in the budget's own unit (seconds, flop, steps or tokens)."""
        return (1.0 - self.progress) * self._meter.budget.amount

    def batches(self, batch_size: int, sequence_length: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, targets), each (batch_size, sequence_length) int64 on `device`, until the budget is spent.

        Rows of the track's length begin with a document; any other length is cut from the stream of rows in order.
        Every epoch is a new permutation. A program may call this more than once: the budget goes on.
        """
        length = self._sequence_length if sequence_length is None else sequence_length
        windows = self._windows(length, self._begin())
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; it must be a whole number of at least 1")
        batch_size, length = int(batch_size), int(length)
        coming = feed(windows, self._shuffled(len(windows), batch_size), self._device)
        while self._meter.allows_step():
            batch = next(coming)
            try:
                yield batch[:, :-1], batch[:, 1:]
            finally:  # a loop that is left early has had its last batch, too
                if self._meter.warms_up:  # later only the sum counts, and nobody waits for the device
                    finish_queue(self._device)
                flop = self._count_flop()
                self._meter.step(batch_size * length, flop, time.monotonic())
                self._send({"event": "step", "tokens": batch_size * length, "flop": flop})

    def log(self, loss: Tensor | float, **scalars: Tensor | float) -> None:
        """Report the loss (nats per token) of the current step, and any other figures by name.

        NaN or an infinite loss ends the run as `diverged`.
        """
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        self._send({"event": "log", "loss": repr(value), "scalars": {k: repr(float(v)) for k, v in scalars.items()}})
        if not math.isfinite(value):
            raise Diverged(f"loss is {value}")

    def _begin(self) -> np.ndarray:
        """The training rows, (N, T + 1). They come when the clock starts: before it there is nothing to train on."""
        if self._rows is None:
            self._meter.start(time.monotonic())
            self._send({"event": "start", "luck": luck()})
            self._rows = self._open_rows()
        return self._rows

    def _close(self) -> None:
        """`train` has returned: a loop that somebody still holds, or a late `log`, has nothing more to say."""
        self._send = lambda message: None

    def _windows(self, length: int, rows: np.ndarray) -> np.ndarray:
        """Every stretch of length + 1 tokens that a batch may hold: (N, length + 1), a view of the rows."""
        if length == self._sequence_length:
            return rows
        stream = rows.reshape(-1)
        if not isinstance(length, int | np.integer) or not 1 <= length < len(stream):
            raise ValueError(f"sequence_length is {length!r}; it must be a whole number from 1 to {len(stream) - 1}")
        return np.lib.stride_tricks.sliding_window_view(stream, length + 1)[::length]

    def _shuffled(self, rows: int, batch_size: int) -> Iterator[np.ndarray]:
        """Row numbers of each batch: (batch_size,). A batch that an epoch cannot fill goes on in the next one."""
        left = np.empty(0, dtype=np.int64)
        while True:
            while len(left) < batch_size:
                left = np.concatenate([left, self._random.permutation(rows)])
            yield left[:batch_size]
            left = left[batch_size:]
