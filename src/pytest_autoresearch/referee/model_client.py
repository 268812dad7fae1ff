"""The trained model that a candidate serves: requests, logits, and the time of each answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor

from pytest_autoresearch.core.device_memory import DeviceMemory, NoRoom, Refused
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.exchange import DTYPES, Exchange
from pytest_autoresearch.core.protocol import Answered, Ask, Raised
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee.failures import Failed, crash, unexpected
from pytest_autoresearch.referee.job import LocalJob
from pytest_autoresearch.referee.losses import NotFinite
from pytest_autoresearch.referee.probes import RuleBroken
from pytest_autoresearch.referee.process import Candidate
from pytest_autoresearch.referee.scoring import Score, score
from pytest_autoresearch.referee.secret import secret_draw

ANSWER_SECONDS = 1.0
DEVICE_ANSWER_SECONDS = 3.0
"""An answer may take 4 times the median. What the answers take beyond that may hide training, so all of it together is
limited: to seconds of CPU time, or on a GPU to seconds of wall time, because no other run uses the GPU meanwhile. There
a busy host may let a few answers wait."""


class Served:
    """The model of a candidate that has trained."""

    def __init__(self, job: LocalJob, candidate: Candidate, flop: int, free_seconds: float) -> None:
        """`flop`: the total so far. `free_seconds`: how much longer the first answer may take, because it compiles."""
        self._job, self._candidate, self._free_seconds = job, candidate, free_seconds
        self._on_device = job.track.device != "cpu"
        self._cpu, self._flop = candidate.look().cpu, flop  # so far
        self._seconds: list[float] = []  # of each answer
        self._flops: list[int] = []
        self.memory = 0  # the candidate's peak bytes on the device, by its own account
        self.own_memory = 0  # this process's peak bytes on the device

    def score(self, on_batch: Callable[[float], None]) -> Score:
        """The score; the targets never leave this process. Failed; UsageError, see `_exchange`."""
        track, data, spec = self._job.track, self._job.data, self._job.spec
        draw = secret_draw(self._job.secret, spec.source, spec.seed, spec.data_key)
        own_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the sums are small, and threads of this process would take the candidate's cores
        try:
            with self._exchange() as ask:
                found = score(
                    ask, data.heldout_rows, data.token_bytes, track.batch_size, draw, spec.baseline_nats, on_batch
                )
        except RuleBroken as broken:
            raise Failed(Outcome.DISQUALIFIED, str(broken)) from None
        except NotFinite as error:
            raise Failed(Outcome.DIVERGED, str(error)) from None
        except (NoRoom, torch.OutOfMemoryError):
            lower = f"lower evaluation.batch_size ({track.batch_size}) in {track.folder / 'track.toml'}"
            raise Failed(Outcome.OUT_OF_MEMORY, f"no room on the device to score; {lower}") from None
        finally:
            torch.set_num_threads(own_threads)
        self._check_answers()
        return found

    @contextmanager
    def _exchange(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield a function from tokens (B, T) to their logits. Memory for them on a GPU is allocated only now.

        UsageError if the device's memory cannot be shared although `check_sharing` succeeded: the program is not to
        blame.
        """
        track, shared = self._job.track, None
        shape = track.batch_size, track.sequence_length, track.vocab_size
        device = _scoring_device(track.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            if self._job.shares_device:
                shared = DeviceMemory(Exchange.sizes(*shape)[1])
                self._candidate.send_file(shared.file)
            exchange = Exchange(self._candidate.memory, shared, *shape)
            yield lambda tokens: self._answer(tokens, exchange, device)
        except Refused as refused:
            raise UsageError(f"the device's memory cannot be shared: {refused}") from None
        finally:
            if device.type == "cuda":
                torch.cuda.synchronize()
                self.own_memory = torch.cuda.max_memory_allocated() + (shared.size if shared else 0)
            if shared:
                shared.close()

    def _answer(self, tokens: Tensor, exchange: Exchange, device: torch.device) -> Tensor:
        """Logits (B, T, vocab) float32 of tokens (B, T), on `device`: a copy that the candidate cannot change."""
        asked = time.monotonic()
        exchange.tokens.copy_(tokens)
        self._candidate.send(Ask())
        message = self._candidate.receive()
        if isinstance(message, Raised):
            raise crash(message, self._job.spec.source, self._job.track.memory)
        if not isinstance(message, Answered) or message.dtype not in DTYPES:
            raise unexpected(message)
        flop, self._flop = self._flop, message.flop
        self._flops.append(self._flop - flop)
        if self._on_device:
            self._seconds.append(time.monotonic() - asked)
        else:  # CPU time, because other processes may use the cores, too; all since the last answer counts
            cpu, self._cpu = self._cpu, self._candidate.look().cpu
            self._seconds.append(self._cpu - cpu)
        self.memory = max(self.memory, message.memory)
        logits = exchange.logits(message.dtype).to(device, torch.float32, copy=True)
        if logits.is_cuda:
            torch.cuda.synchronize()  # the next answer goes to the same place
        return logits

    def _check_answers(self) -> None:
        """Failed if some answers took many more seconds or flop than the others: all requests have the same size."""
        usual, usual_flop = median(self._seconds), median(self._flops)
        free = [self._free_seconds] + [0.0] * len(self._seconds)
        beyond = sum(max(0.0, took - 4 * usual - more) for took, more in zip(self._seconds, free, strict=False))
        if beyond > (DEVICE_ANSWER_SECONDS if self._on_device else ANSWER_SECONDS):
            what = "seconds" if self._on_device else "CPU seconds"
            raise _too_much(f"{beyond:.1f} {what} in answers beyond 4 times the usual one, which takes {usual:.2g}")
        for flop in self._flops:
            if not 0 <= flop <= 1.5 * usual_flop:
                raise _too_much(f"{flop:.3g} flop for one answer, {usual_flop:.3g} for the usual one")

    @property
    def first_answer(self) -> float:
        """Seconds by which the first answer took longer than the median answer."""
        return max(0.0, self._seconds[0] - median(self._seconds)) if self._seconds else 0.0


def _scoring_device(kind: str) -> torch.device:
    """The device on which the referee computes the loss: the track's GPU, even if logits come through the host."""
    if kind == "cuda":
        try:
            torch.zeros(1, device="cuda")
            return torch.device("cuda")
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError):  # for example a GPU that serves one process at a time
            pass
    return torch.device("cpu")


def _too_much(took: str) -> Failed:
    return Failed(Outcome.DISQUALIFIED, f"{took}: its budget was over")
