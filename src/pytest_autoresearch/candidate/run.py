"""`Run`: all that a program's `train` receives."""

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.candidate.batches import feed
from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.budget import Meter


class Diverged(BaseException):
    """The loss is NaN or infinite. Not an Exception, so that `except Exception` in a program does not catch it."""


def rng_digest() -> list[str]:
    """Digests of the states of torch's, NumPy's and Python's random number generators."""
    states = (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()).encode(),
        repr(random.getstate()).encode(),
    )
    return [hashlib.sha256(state).hexdigest()[:16] for state in states]


def finish_queue(device: torch.device) -> None:
    """Wait until the device has done all work in its queue; a CPU has no queue."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Run:
    """One training of one program with one seed.

    `seed` determines the order of the data and all random numbers: they are the same for baseline and experiment.
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
        send: Callable[[protocol.Message], None],
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
        self._saved = protocol.SaveQuota()
        self._closed = False
        self._random = np.random.default_rng(seed)
        self._progress = 0.0

    @property
    def device(self) -> torch.device:
        """The device of the batches. Put the model there, too."""
        return self._device

    @property
    def seed(self) -> int:
        """The seed of this run. torch, NumPy and `random` were seeded with it before the program was imported."""
        return self._seed

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary; logits are (B, T, vocab_size)."""
        return self._vocab_size

    @property
    def sequence_length(self) -> int:
        """The length T of the sequences on which the model is scored."""
        return self._sequence_length

    @property
    def progress(self) -> float:
        """Share of the budget spent before the current batch: 0 at the first batch, close to 1 at the last.

        It never falls, except during the first ten batches on a GPU: part of their time may turn out to be
        compilation, which is free.
        """
        if self._meter.warms_up:
            return self._meter.progress
        self._progress = max(self._progress, self._meter.progress)
        return self._progress

    @property
    def remaining(self) -> float:
        """The rest of the budget, in its unit (seconds, flop, steps or tokens)."""
        return (1.0 - self.progress) * self._meter.budget.amount

    def batches(self, batch_size: int, sequence_length: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, targets), each (batch_size, sequence_length) int64 on `device`, until the budget is spent.

        `targets` are `tokens` shifted by one. At the track's own sequence length each row is a packed row; for any
        other length the rows are joined in order and cut anew. Each epoch is a new permutation. A second call continues
        with the same budget. ValueError if an argument is not a whole number in range.
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
            finally:  # also if the program leaves its loop early: the last batch counts
                if self._meter.warms_up:  # the time of each of these steps counts; later only their sum does
                    finish_queue(self._device)
                flop = self._count_flop()
                self._meter.step(batch_size * length, flop, time.monotonic())
                self._send(protocol.Stepped(batch_size * length, flop))

    def log(self, loss: Tensor | float, **scalars: Tensor | float) -> None:
        """Report the loss (nats per token) of the current step, and any other figures by name.

        A loss that is NaN or infinite ends the run as `diverged`.
        """
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        self._send(protocol.Logged(value, {name: float(scalar) for name, scalar in scalars.items()}))
        if not math.isfinite(value):
            raise Diverged(f"loss is {value}")

    def save(self, name: str, data: bytes) -> None:
        """Keep `data` as the file `saved/<name>` beside the run's log.

        A run may save 64 files and 16 MB in all. A name has at most 100 letters, digits, `_`, `-` and `.`, and begins
        with no dot; a second file of the same name replaces the first. ValueError if the name or the size is not
        allowed, or if `train` has returned.
        """
        if self._closed:
            raise ValueError(f"cannot save {name!r}: `train` has returned")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"cannot save {name!r}: the data must be bytes, not {type(data).__name__}")
        data = bytes(data)
        self._saved.charge(name, len(data))
        for start in range(0, max(1, len(data)), protocol.SAVED_CHUNK):
            self._send(protocol.Saved(name, data[start : start + protocol.SAVED_CHUNK], first=not start))

    def _begin(self) -> np.ndarray:
        """The training rows, (N, T + 1). The referee sends them when the clock starts, not earlier."""
        if self._rows is None:
            self._meter.start(time.monotonic())
            self._send(protocol.Started(rng_digest()))
            self._rows = self._open_rows()
        return self._rows

    def _close(self) -> None:
        """Note that `train` has returned. From now on nothing is sent, for example by `log` or a leftover loop."""
        self._closed = True
        self._send = lambda message: None

    def _windows(self, length: int, rows: np.ndarray) -> np.ndarray:
        """All sequences that a batch may hold: (N, length + 1), a view of the rows. ValueError if there are none."""
        if length == self._sequence_length:
            return rows
        stream = rows.reshape(-1)
        if not isinstance(length, int | np.integer) or not 1 <= length < len(stream):
            raise ValueError(f"sequence_length is {length!r}; it must be a whole number from 1 to {len(stream) - 1}")
        return np.lib.stride_tricks.sliding_window_view(stream, length + 1)[::length]

    def _shuffled(self, rows: int, batch_size: int) -> Iterator[np.ndarray]:
        """Row numbers of each batch: (batch_size,). If an epoch ends within a batch, the next epoch fills it."""
        left = np.empty(0, dtype=np.int64)
        while True:
            while len(left) < batch_size:
                left = np.concatenate([left, self._random.permutation(rows)])
            yield left[:batch_size]
            left = left[batch_size:]
