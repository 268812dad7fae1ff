"""The trained model as its candidate serves it: what the referee asks, what it gets, and what each answer took."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pytest_autoresearch.core.device_memory import DeviceMemory, NoRoom, Refused, Route
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.exchange import Exchange
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee import scoring
from pytest_autoresearch.referee.failures import Failed, crash, is_count, printable
from pytest_autoresearch.referee.process import Candidate

if TYPE_CHECKING:
    from pytest_autoresearch.referee.local import Job

ANSWER_SECONDS = 1.0
"""Seconds that one answer may take besides 4 times the usual ones: what takes longer is training. They are of CPU time,
or on a GPU, which nobody else uses meanwhile, of wall clock."""


class Served:
    """The model of a candidate that has trained. `flop`: counted so far; `free_seconds`: for the first answer to
    compile in."""

    def __init__(self, job: "Job", candidate: Candidate, flop: int, free_seconds: float) -> None:
        self._job, self._candidate, self._free_seconds = job, candidate, free_seconds
        self._on_device = job.track.device != "cpu"
        self._cpu, self._flop = candidate.look().cpu, flop  # so far
        self._seconds: list[float] = []  # that each answer took
        self._flops: list[int] = []
        self.memory = 0  # the most bytes of the device that the candidate says it took
        self.own_memory = 0  # and that this process has taken to score it

    def score(self, progress: Callable[[float], None]) -> float:
        """val_bpb; the targets stay here, unless there is nothing that both sides can see. Failed."""
        track, data = self._job.track, self._job.data
        if self._job.route == Route.IN_PROCESS:
            return self._scored_by_itself(progress)
        own_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the sums are small, and threads of this process would get in the candidate's way
        try:
            with self._exchange() as exchange:
                val_bpb = scoring.score(
                    lambda tokens: self._answer(tokens, exchange),
                    data.heldout_rows,
                    data.token_bytes,
                    track.batch_size,
                    progress,
                )
        except scoring.RuleBroken as broken:
            raise Failed(Outcome.DISQUALIFIED, str(broken)) from None
        except scoring.NotFinite as error:
            raise Failed(Outcome.DIVERGED, str(error)) from None
        except (NoRoom, torch.OutOfMemoryError):
            where = track.folder / "track.toml"
            reason = f"no room on the device to score; lower evaluation.batch_size ({track.batch_size}) in {where}"
            raise Failed(Outcome.OUT_OF_MEMORY, reason) from None
        except Refused as refused:  # though it did when it was asked: nobody's program is to blame
            raise UsageError(f"the device's memory cannot be shared: {refused}") from None
        finally:
            torch.set_num_threads(own_threads)
        self._check_answers()
        return val_bpb

    @contextmanager
    def _exchange(self) -> Iterator[Exchange]:
        """The memory that tokens go and logits come through; on a device it is allocated only now."""
        track, memory = self._job.track, self._candidate.memory
        shape = track.batch_size, track.sequence_length, track.vocab_size
        if self._job.route == Route.HOST:
            yield Exchange.over(memory, memory, *shape)
            return
        torch.cuda.reset_peak_memory_stats()
        shared = DeviceMemory(Exchange.sizes(*shape)[1])
        try:
            self._candidate.send_file(shared.file)
            yield Exchange.over(memory, shared, *shape)
        finally:
            torch.cuda.synchronize()
            self.own_memory = torch.cuda.max_memory_allocated() + shared.size
            shared.close()

    def _answer(self, tokens: Tensor, exchange: Exchange) -> Tensor:
        """Logits (B, T, vocab) float32 of tokens (B, T); a copy, so that what is scored is what is looked at."""
        asked = time.monotonic()
        exchange.tokens.copy_(tokens)
        self._candidate.send({"rows": len(tokens)})
        message = self._receive()
        counts = message.get("flop"), message.get("memory")
        if (
            message.keys() != {"event", "flop", "memory"}
            or message["event"] != "logits"
            or not all(map(is_count, counts))
        ):
            raise _unexpected(message)
        flop, self._flop = self._flop, message["flop"]
        self._flops.append(self._flop - flop)
        if self._on_device:
            self._seconds.append(time.monotonic() - asked)
        else:  # where others may want the cores, too; and what was done since the last answer belongs to this one
            cpu, self._cpu = self._cpu, self._candidate.look().cpu
            self._seconds.append(self._cpu - cpu)
        self.memory = max(self.memory, message["memory"])
        assert exchange.logits is not None
        logits = exchange.logits.clone()
        if logits.is_cuda:
            torch.cuda.synchronize()  # the next answer goes to the same place
        return logits

    def _check_answers(self) -> None:
        """All answers are alike, so that none takes many more seconds, or flop, than another. Failed."""
        usual, usual_flop = median(self._seconds), median(self._flops)
        for number, (seconds, flop) in enumerate(zip(self._seconds, self._flops, strict=True)):
            if seconds > ANSWER_SECONDS + 4 * usual + self._free_seconds * (number == 0):
                what = "seconds" if self._on_device else "CPU seconds"
                raise _too_much(f"{seconds:.1f} {what}", f"{usual:.2g}")
            if not 0 <= flop <= 1.5 * usual_flop:
                raise _too_much(f"{flop:.3g} flop", f"{usual_flop:.3g}")

    @property
    def first_answer(self) -> float:
        """Seconds that the first answer took longer than the usual one."""
        return max(0.0, self._seconds[0] - median(self._seconds)) if self._seconds else 0.0

    def _scored_by_itself(self, progress: Callable[[float], None]) -> float:
        """val_bpb as the candidate's process says it: it gets rows and targets, and our code computes it there."""
        rows = self._job.data.open_heldout_rows()
        self._candidate.send_file(rows)
        os.close(rows)
        self._candidate.send({"token_bytes": self._job.data.token_bytes.tolist()})
        while True:
            match message := self._receive():
                case {"event": "scoring", "done": float(done)}:
                    progress(done)
                case {"event": "scored", "val_bpb": float(val_bpb), "memory": int(memory)} if 0 < val_bpb < math.inf:
                    self.memory = max(0, memory)
                    return val_bpb
                case {"event": "broken", "reason": str(reason)}:
                    raise Failed(Outcome.DISQUALIFIED, printable(reason, 300))
                case {"event": "diverged", "reason": str(reason)}:
                    raise Failed(Outcome.DIVERGED, printable(reason, 300))
                case _:
                    raise _unexpected(message)

    def _receive(self) -> dict[str, Any]:
        message = self._candidate.receive(lambda: None)  # how far scoring has come is told after each batch
        if message.get("event") == "failed":
            raise crash(message, self._job.source, self._job.track.memory)
        return message


def _unexpected(message: dict[str, Any]) -> Failed:
    return Failed(Outcome.DISQUALIFIED, f"sent an unexpected message: {str(message)[:80]}")


def _too_much(took: str, usual: str) -> Failed:
    return Failed(Outcome.DISQUALIFIED, f"{took} for one answer, {usual} for the usual one: its budget was over")
