"""`Run`: all that a program's `train` receives."""

import hashlib
import math
import random
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.budget import Meter

AHEAD = 2
"""How many steps a program may be ahead of a GPU, which works through a queue."""


class Diverged(BaseException):
    """The loss is NaN or infinite. Not an Exception, so that `except Exception` in a program does not catch it."""


def rng_digest(device: torch.device) -> list[str]:
    """Digests of the states of torch's, NumPy's and Python's random number generators, and of the device's own."""
    states = [
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()).encode(),
        repr(random.getstate()).encode(),
    ]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state().numpy().tobytes())
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state().numpy().tobytes())
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
        train_tokens: int,
        amount: float,
        draw: Callable[[protocol.Draw], tuple[bytearray, float]],
        count_flop: Callable[[], int],
        send: Callable[[protocol.Message], None],
    ) -> None:
        """`train_tokens`: length of the training text; `amount`: the budget; `draw` asks the referee for a batch: its
        tokens (batch_size, sequence_length + 1) uint16, none if the budget is spent, and the progress before it."""
        self._device = torch.device(device)
        self._seed = seed
        self._vocab_size = vocab_size
        self._sequence_length = sequence_length
        self._train_tokens = train_tokens
        self._amount = amount
        self._draw = draw
        self._count_flop = count_flop
        self._send = send
        self._saved = protocol.SaveQuota()
        self._started = self._closed = False
        self._batches = 0
        self._progress = 0.0
        self._queued: deque[torch.cuda.Event] = deque()  # ends of the last steps

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

        Under a budget in flop it is the share of the tokens that a run may draw, if that is more. It never falls,
        except during the first ten batches on a GPU: part of their time may turn out to be compilation, which is free.
        """
        return self._progress

    @property
    def remaining(self) -> float:
        """The rest of the budget, in its unit (seconds, flop, steps or tokens)."""
        return (1.0 - self.progress) * self._amount

    def batches(self, batch_size: int, sequence_length: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, targets), each (batch_size, sequence_length) int64 on `device`, until the budget is spent.

        `targets` are `tokens` shifted by one. At the track's own sequence length each row is a packed row; for any
        other length the rows are joined in order and cut anew. Each epoch is a new permutation. A second call continues
        with the same budget. ValueError if an argument is not a whole number in range.
        """
        length = self._sequence_length if sequence_length is None else sequence_length
        size = _plain(batch_size), _plain(length)
        protocol.check_draw(*size, self._sequence_length, self._train_tokens)
        while (batch := self._next_batch(*size)) is not None:
            yield batch[:, :-1], batch[:, 1:]

    def _next_batch(self, batch_size: int, length: int) -> Tensor | None:
        """A batch (batch_size, length + 1) int64 on the device, or None if the budget is spent."""
        if self._closed:
            return None
        if not self._started:
            self._started = True
            self._send(protocol.Started(rng_digest(self._device)))
        self._keep_pace()
        rows, progress = self._draw(protocol.Draw(batch_size, length, self._count_flop()))
        warms_up = self._device.type != "cpu" and self._batches < Meter.WARM_UP_STEPS
        self._progress = progress if warms_up else max(self._progress, progress)
        if not rows:
            return None
        self._batches += 1
        tokens = torch.frombuffer(rows, dtype=torch.int16).view(batch_size, length + 1)
        if self._device.type == "cuda":  # two bytes per token, and the host does not wait
            tokens = tokens.pin_memory().to(self._device, non_blocking=True)
        return tokens.to(self._device).to(torch.int64) & 0xFFFF  # the 16 bits, read without a sign

    def _keep_pace(self) -> None:
        """Wait until the device has done all but the last AHEAD steps.

        Without this, a program that never looks at its loss queues more steps than its seconds allow. The first steps
        are charged one by one, so the host waits for each of them.
        """
        if self._batches <= Meter.WARM_UP_STEPS:
            finish_queue(self._device)
        elif self._device.type == "cuda":
            self._queued.append(torch.cuda.current_stream(self._device).record_event())
            if len(self._queued) > AHEAD:
                self._queued.popleft().synchronize()

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

    def _close(self) -> None:
        """Note that `train` has returned. From now on nothing is sent, for example by `log` or a leftover loop."""
        self._closed = True
        self._send = lambda message: None


def _plain(number: int) -> int:
    """NumPy's whole numbers as Python's; anything else as it is."""
    return int(number) if isinstance(number, np.integer) else number
