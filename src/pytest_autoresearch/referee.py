"""The trusted side of a run: starts the candidate, holds the clock and the held-out text, computes the score.

The candidate is another process in a session of its own. It says JSON lines on one socket, prints into a pipe that
becomes `log.txt`, and answers with logits in a buffer that the referee allocated. Nothing it wrote is unpickled.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_autoresearch.process import Candidate, Died, Forged
from pytest_autoresearch.track import Meter, Track, threads
from pytest_autoresearch.verdict import Outcome

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared

CURVE_POINTS = 100

Watchdog = Callable[[float], AbstractContextManager[None]]
"""Guards a block for so many seconds; raises TimeoutError in it when they are over."""


@dataclass(frozen=True)
class Job:
    """One run to do: `source` trained with `seed` on `track`; the evidence goes into `folder`."""

    track: Track
    data: "Prepared"
    source: str
    seed: int
    folder: Path


@dataclass(frozen=True)
class Progress:
    """What a spectator may see of a run: `stage` is "starting", "training" or "scoring", `done` 0 to 1 of it."""

    stage: str
    done: float = 0.0
    loss: float = math.nan
    tokens_per_second: float = 0.0
    seconds_left: float = math.nan


@dataclass(frozen=True)
class Result:
    """What came of a run. `failure` is None when it has a score; `detail` may hold the candidate's traceback."""

    seed: int
    val_bpb: float | None
    failure: Outcome | None = None
    reason: str = ""
    detail: str = ""
    steps: int = 0
    tokens: int = 0
    flop: int = 0
    training_seconds: float = 0.0
    seconds: float = 0.0
    memory_gb: float = 0.0
    curve: list[float | None] = field(default_factory=list)
    """Mean training loss (nats per token) in each hundredth of the budget."""
    scalars: dict[str, float | None] = field(default_factory=dict)
    """The last value of each other figure that the program logged; None where that was NaN or infinite."""


class Failed(Exception):
    """The run is over without a score."""

    def __init__(self, outcome: Outcome, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.detail = outcome, reason, detail


def run(job: Job, watchdog: Watchdog, spectator: Callable[[Progress], None] = lambda progress: None) -> Result:
    """Train and score one program with one seed; always returns, and leaves no process behind.

    Writes `program.py`, `log.txt` and `result.json` into the job's folder. OSError where that is impossible.
    """
    from pytest_autoresearch import scoring  # here and not above: collection must not import torch

    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    (job.folder / "program.py").write_text(job.source, encoding="utf-8")
    referee = _Referee(job, spectator)
    track = job.track
    shared = scoring.buffer_bytes(track.batch_size, track.sequence_length, track.vocab_size)
    with Candidate(job.folder, shared) as candidate:
        try:
            with watchdog(job.track.budget.limit):
                referee.train(candidate)
                val_bpb = referee.score(candidate)
            outcome: tuple[float | None, Outcome | None, str, str] = (val_bpb, None, "", "")
        except TimeoutError:
            outcome = None, Outcome.TIMED_OUT, f"{referee.where()} after {job.track.budget.limit:g} s", ""
        except Failed as failed:
            outcome = None, failed.outcome, failed.reason, failed.detail
        except Died as died:
            outcome = None, Outcome.CRASHED, *died.args
        except Forged as forged:
            outcome = None, Outcome.DISQUALIFIED, str(forged), ""
        result = referee.result(candidate, *outcome)
    (job.folder / "result.json").write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return result


class _Referee:
    """One run as the trusted side sees it."""

    def __init__(self, job: Job, spectator: Callable[[Progress], None]) -> None:
        self.job = job
        self.spectator = spectator
        self.began = time.monotonic()
        self.meter = Meter(job.track.budget, self.began)
        self.stage = "starting"
        self.loss = math.nan
        self.losses: list[list[float]] = [[] for _ in range(CURVE_POINTS)]
        self.scalars: dict[str, float | None] = {}
        self.trained = False

    def train(self, candidate: Candidate) -> None:
        """Follow the candidate until it has trained. Failed where it has not."""
        track, data = self.job.track, self.job.data
        candidate.send(
            {
                "program": str(self.job.folder / "program.py"),
                "seed": self.job.seed,
                "device": track.device,
                "threads": threads(),
                "budget": asdict(track.budget),
                "rows": str(data.train_path),
                "sequence_length": track.sequence_length,
                "vocab_size": track.vocab_size,
            }
        )
        while not self.trained:
            message = candidate.receive(self.show)
            now = time.monotonic()
            try:
                self.take(message, now)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                raise Failed(Outcome.DISQUALIFIED, f"sent an unreadable message: {str(message)[:80]}") from None
        if reason := self.meter.overspent():
            raise Failed(Outcome.DISQUALIFIED, reason)
        candidate.note_memory()

    def take(self, message: dict[str, Any], now: float) -> None:
        match message["event"]:
            case "start":
                self.meter.start(now)
                self.stage = "training"
            case "step":
                tokens, flop = int(message["tokens"]), int(message["flop"])
                if tokens < 1 or flop < self.meter.flop:
                    raise ValueError(message)
                self.meter.step(tokens, flop, now)
            case "log":
                self.loss = float(message["loss"])
                if not math.isfinite(self.loss):
                    raise Failed(Outcome.DIVERGED, f"loss is {self.loss} in step {self.meter.steps + 1}")
                bucket = min(CURVE_POINTS - 1, int(self.meter.progress * CURVE_POINTS))
                self.losses[bucket].append(self.loss)
                scalars = {str(name): float(value) for name, value in message["scalars"].items()}
                self.scalars = {name: _finite(value) for name, value in scalars.items()}
            case "trained":
                self.meter.finish(int(message["flop"]), now)
                self.trained = True
            case "failed":
                raise _crash(message)
            case other:
                raise ValueError(other)

    def score(self, candidate: Candidate) -> float:
        """val_bpb of the model that the candidate serves; the targets stay here."""
        import torch

        from pytest_autoresearch import scoring

        track, data = self.job.track, self.job.data
        self.stage = "scoring"

        def predict(tokens: torch.Tensor) -> torch.Tensor:
            shared_tokens, shared_logits = scoring.views(
                candidate.memory, len(tokens), track.sequence_length, track.vocab_size
            )
            shared_tokens.copy_(tokens)
            candidate.send({"rows": len(tokens)})
            message = candidate.receive(lambda: None)  # `show` below tells how far scoring has come
            if message.get("event") == "failed":
                raise _crash(message)
            if message != {"event": "logits"}:
                raise Failed(Outcome.DISQUALIFIED, f"sent an unexpected message: {str(message)[:80]}")
            return shared_logits.clone()  # what is scored is what was looked at

        def show(share: float) -> None:
            self.spectator(Progress("scoring", share, self.loss))

        own_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the sums are small, and threads of this process would get in the candidate's way
        try:
            return scoring.score(predict, data.heldout_rows, data.token_bytes, track.batch_size, show)
        except scoring.RuleBroken as broken:
            raise Failed(Outcome.DISQUALIFIED, str(broken)) from None
        except scoring.NotFinite as error:
            raise Failed(Outcome.DIVERGED, str(error)) from None
        finally:
            torch.set_num_threads(own_threads)

    def show(self) -> None:
        """Tell the spectator how training goes."""
        if self.stage != "training":
            self.spectator(Progress(self.stage, 0.0, self.loss))
            return
        done = self.meter.progress
        trained = max(self.meter.training_seconds, 1e-9)
        left = trained / done * (1 - done) if done else math.nan
        self.spectator(Progress("training", done, self.loss, self.meter.tokens / trained, left))

    def where(self) -> str:
        if self.stage == "training":
            return f"still training ({self.meter.progress:.0%} of the budget)"
        return f"still {self.stage}"

    def result(
        self, candidate: Candidate, val_bpb: float | None, failure: Outcome | None, reason: str, detail: str
    ) -> Result:
        return Result(
            seed=self.job.seed,
            val_bpb=val_bpb,
            failure=failure,
            reason=reason,
            detail=detail,
            steps=self.meter.steps,
            tokens=self.meter.tokens,
            flop=self.meter.flop,
            training_seconds=round(self.meter.training_seconds, 3),
            seconds=round(time.monotonic() - self.began, 3),
            memory_gb=round(candidate.peak_memory / 1e9, 3),
            curve=[_finite(sum(losses) / len(losses)) if losses else None for losses in self.losses],
            scalars=self.scalars,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers


def _crash(message: dict[str, Any]) -> Failed:
    """The verdict on an exception in the program."""
    error, kind = printable(message.get("error", ""), 300), str(message.get("kind", ""))
    if kind == "Diverged":
        return Failed(Outcome.DIVERGED, error)
    if kind in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in error:
        error = f"out of memory: lower the batch size or the model ({error})"
    return Failed(Outcome.CRASHED, error, printable(message.get("traceback", ""), 10_000))


def printable(text: object, length: int) -> str:
    """What a candidate said, short enough to show, and without what no file or terminal takes."""
    words = str(text).encode(errors="replace").decode()
    return words if len(words) <= length else f"{words[:length]} …"
