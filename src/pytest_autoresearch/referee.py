"""The trusted side of a run: starts the candidate, holds the clock and the held-out text, computes the score.

The candidate is another process in a session of its own. It says JSON lines on one socket, prints into a pipe that
becomes `log.txt`, and answers with logits in a buffer that the referee allocated. Nothing it wrote is unpickled.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_autoresearch.process import Candidate, Died, Forged, Killed
from pytest_autoresearch.sandbox import Sandbox
from pytest_autoresearch.track import Meter, Track, threads
from pytest_autoresearch.verdict import Outcome

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared

CURVE_POINTS = 100
OTHERS_CPU = 1.0
"""CPU seconds that processes which a program starts may use where flop are the budget: nobody counts theirs."""
ANSWER_CPU = 1.0
"""CPU seconds that one answer may take besides 4 times the usual ones: what takes longer is training."""

Watchdog = Callable[[float], AbstractContextManager[None]]
"""Guards a block for so many seconds; raises TimeoutError in it when they are over."""


@dataclass(frozen=True)
class Job:
    """One run to do: `source` trained with `seed` on `track`; the evidence goes into `folder`.

    `cpu_limit`: CPU seconds that the whole run may use, where the budget is in flop and the baseline tells.
    """

    track: Track
    data: "Prepared"
    source: str
    seed: int
    folder: Path
    sandbox: Sandbox | None = None
    cpu_limit: float | None = None


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
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    sandboxed: bool = False
    luck: list[str] = field(default_factory=list)
    """Digests of the random states that training began with."""
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
    with Candidate(job.folder, shared, job.sandbox, track.memory) as candidate:
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
        except Killed as killed:
            outcome = None, Outcome.OUT_OF_MEMORY, f"{killed.args[0]}; {REMEDY}", killed.args[1]
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
        self.meter = Meter(job.track.budget, self.began, compiles=job.track.device != "cpu")
        self.stage = "starting"
        self.loss = math.nan
        self.losses: list[list[float]] = [[] for _ in range(CURVE_POINTS)]
        self.scalars: dict[str, float | None] = {}
        self.luck: list[str] = []
        self.trained = False

    def train(self, candidate: Candidate) -> None:
        """Follow the candidate until it has trained. Failed where it has not."""
        track = self.job.track
        candidate.send(
            {
                "program": str(self.job.folder / "program.py"),
                "seed": self.job.seed,
                "device": track.device,
                "threads": threads(),
                "budget": asdict(track.budget),
                "memory": track.memory,
                "sequence_length": track.sequence_length,
                "vocab_size": track.vocab_size,
            }
        )
        while not self.trained:
            message = candidate.receive(self.show)
            now = time.monotonic()
            try:
                self.take(message, now, candidate)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                raise Failed(Outcome.DISQUALIFIED, f"sent an unreadable message: {str(message)[:80]}") from None
        if reason := self.meter.overspent():
            raise Failed(Outcome.DISQUALIFIED, reason)
        self.check_cpu(candidate)

    def check_cpu(self, candidate: Candidate) -> None:
        """Flop are counted in the program's own process and by torch: CPU time tells what else has been at work."""
        if self.job.track.budget.unit != "flop":
            return
        usage = candidate.look()
        if usage.cpu_of_others > OTHERS_CPU:
            reason = f"{usage.cpu_of_others:.1f} CPU seconds in processes that it started, whose flop nobody counts"
            raise Failed(Outcome.DISQUALIFIED, reason)
        if self.job.cpu_limit and usage.cpu > self.job.cpu_limit:
            reason = f"{usage.cpu:.0f} CPU seconds; {self.job.cpu_limit:.0f} are allowed, from what the baseline takes"
            raise Failed(Outcome.TIMED_OUT, reason)

    def take(self, message: dict[str, Any], now: float, candidate: Candidate) -> None:
        match message["event"]:
            case "start":
                if self.stage != "starting":
                    raise ValueError(message)
                self.meter.start(now)
                self.stage = "training"
                self.luck = [str(digest) for digest in message["luck"]]
                if len(self.luck) != 3:
                    raise ValueError(message)
                rows = self.job.data.open_train_rows()
                candidate.send_file(rows)
                os.close(rows)
            case "step":
                tokens, flop = message["tokens"], message["flop"]
                if not (_is_count(tokens) and _is_count(flop) and tokens and flop >= self.meter.flop):
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
                flop = message["flop"]
                if not (_is_count(flop) and flop >= self.meter.flop):
                    raise ValueError(message)
                self.meter.finish(flop, now)
                self.trained = True
            case "failed":
                raise _crash(message, self.job.track.memory)
            case other:
                raise ValueError(other)

    def score(self, candidate: Candidate) -> float:
        """val_bpb of the model that the candidate serves; the targets stay here."""
        import torch

        from pytest_autoresearch import scoring

        track, data = self.job.track, self.job.data
        self.stage = "scoring"
        cpu, flop = [candidate.look().cpu], [self.meter.flop]  # at the beginning, and after each answer

        def predict(tokens: torch.Tensor) -> torch.Tensor:
            shared_tokens, shared_logits = scoring.views(
                candidate.memory, len(tokens), track.sequence_length, track.vocab_size
            )
            shared_tokens.copy_(tokens)
            candidate.send({"rows": len(tokens)})
            message = candidate.receive(lambda: None)  # `show` below tells how far scoring has come
            if message.get("event") == "failed":
                raise _crash(message, self.job.track.memory)
            if message.keys() != {"event", "flop"} or message["event"] != "logits" or not _is_count(message["flop"]):
                raise Failed(Outcome.DISQUALIFIED, f"sent an unexpected message: {str(message)[:80]}")
            cpu.append(candidate.look().cpu)
            flop.append(message["flop"])
            return shared_logits.clone()  # what is scored is what was looked at

        def show(share: float) -> None:
            self.spectator(Progress("scoring", share, self.loss))

        own_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the sums are small, and threads of this process would get in the candidate's way
        try:
            val_bpb = scoring.score(predict, data.heldout_rows, data.token_bytes, track.batch_size, show)
        except scoring.RuleBroken as broken:
            raise Failed(Outcome.DISQUALIFIED, str(broken)) from None
        except scoring.NotFinite as error:
            raise Failed(Outcome.DIVERGED, str(error)) from None
        finally:
            torch.set_num_threads(own_threads)
        self.check_answers(*([after - before for before, after in pairwise(counts)] for counts in (cpu, flop)))
        self.check_cpu(candidate)
        return val_bpb

    def check_answers(self, cpu: list[float], flop: list[float]) -> None:
        """All answers are alike, so that none takes many more CPU seconds, or flop, than another."""
        usual, usual_flop = median(cpu), median(flop)
        allowed = [ANSWER_CPU + 4 * usual] * len(cpu)
        if self.job.track.budget.unit in ("steps", "tokens") or self.job.track.device != "cpu":
            allowed[0] += self.meter.free_seconds_left  # it may have to compile
        for took, limit, count in zip(cpu, allowed, flop, strict=True):
            if took > limit:
                reason = f"{took:.1f} CPU seconds for one answer, {usual:.2g} for the usual one: its budget was over"
                raise Failed(Outcome.DISQUALIFIED, reason)
            if not 0 <= count <= 1.5 * usual_flop:
                reason = f"{count:.3g} flop for one answer, {usual_flop:.3g} for the usual one: its budget was over"
                raise Failed(Outcome.DISQUALIFIED, reason)

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
        usage = candidate.look()
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
            cpu_seconds=round(usage.cpu, 2),
            memory_gb=round(usage.peak_memory / 1e9, 3),
            sandboxed=self.job.sandbox is not None,
            luck=self.luck,
            curve=[_finite(sum(losses) / len(losses)) if losses else None for losses in self.losses],
            scalars=self.scalars,
        )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers


REMEDY = "lower the batch size or the model"
ASKED = re.compile(r"allocate (\d+(?:\.\d+)?) ?(bytes|[KMGTP]iB)")  # as torch and NumPy say it


def _crash(message: dict[str, Any], memory: float | None) -> Failed:
    """The verdict on an exception in the program; `memory` is what the track allows (bytes)."""
    error, kind = printable(message.get("error", ""), 300), str(message.get("kind", ""))
    detail = printable(message.get("traceback", ""), 10_000)
    if kind == "Diverged":
        return Failed(Outcome.DIVERGED, error)
    if kind in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError") or "can't allocate memory" in error:
        asked = ASKED.search(str(message.get("error", "")))
        units = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50}
        gigabytes = float(asked[1]) * units[asked[2]] / 1e9 if asked else 0.0
        what = f"{gigabytes:{',.0f' if gigabytes >= 10 else '.2g'}} GB asked" if asked else error
        limit = f", {memory / 1e9:.2g} GB allowed in all" if memory else ""
        return Failed(Outcome.OUT_OF_MEMORY, f"{what}{limit}; {REMEDY}", detail)
    return Failed(Outcome.CRASHED, error, detail)


def printable(text: object, length: int) -> str:
    """What a candidate said, short enough to show, and without what no file or terminal takes."""
    words = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text)[: length + 1])
    return words if len(words) <= length else f"{words[:length]} …"
