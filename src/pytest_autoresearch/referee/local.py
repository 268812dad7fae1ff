"""The trusted side of a run: starts the candidate, holds the clock and the held-out text, computes the score.

The candidate is another process in a session of its own. It says JSON lines on one socket, prints into a pipe that
becomes `log.txt`, and answers with logits in memory that the referee allocated. Nothing it wrote is unpickled.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_autoresearch.core.budget import Budget, Meter
from pytest_autoresearch.core.device_memory import Route
from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track, threads
from pytest_autoresearch.referee.failures import Failed, crash, is_count, remedy
from pytest_autoresearch.referee.process import Candidate, Died, Forged, Killed
from pytest_autoresearch.referee.sandbox import Sandbox

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared

CURVE_POINTS = 100
OTHERS_CPU = 1.0
"""CPU seconds that processes which a program starts may use where flop are the budget: nobody counts theirs."""
REHEARSAL_STEPS, REHEARSAL_ROWS = 10, 1024

Watchdog = Callable[[float], AbstractContextManager[None]]
"""Guards a block for so many seconds; raises TimeoutError in it when they are over."""


@dataclass(frozen=True)
class Job:
    """One run to do: `source` trained with `seed` on `track`; the evidence goes into `folder`.

    `cpu_limit`: CPU seconds that the whole run may use, where the budget is in flop and the baseline tells;
    `first_answer`: seconds that the first answer may take longer than the usual one, where the baseline tells. `route`:
    how the logits come. `compiled`: a folder of compiled code that the program begins with.
    """

    track: Track
    data: "Prepared"
    source: str
    seed: int
    folder: Path
    sandbox: Sandbox | None = None
    cpu_limit: float | None = None
    first_answer: float | None = None
    route: Route = Route.HOST
    compiled: Path | None = None

    @property
    def isolation(self) -> str:
        """What is between the program and its score."""
        if self.route == Route.IN_PROCESS:
            return str(self.route)
        return "sandbox" if self.sandbox else "process"


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
    spent: float = 0.0
    """What was charged, in the budget's unit."""
    free_seconds: float = 0.0
    """What import, building and compilation took without being charged."""
    first_answer: float = 0.0
    """Seconds that the first answer took longer than the usual one."""
    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    """The most that the candidate took, of a GPU's memory where there is one."""
    referee_memory_gb: float = 0.0
    """What the referee itself took of the GPU to score it."""
    isolation: str = ""
    luck: list[str] = field(default_factory=list)
    """Digests of the random states that training began with."""
    curve: list[float | None] = field(default_factory=list)
    """Mean training loss (nats per token) in each hundredth of the budget."""
    scalars: dict[str, float | None] = field(default_factory=dict)
    """The last value of each other figure that the program logged; None where that was NaN or infinite."""


def run(job: Job, watchdog: Watchdog, spectator: Callable[[Progress], None] = lambda progress: None) -> Result:
    """Train and score one program with one seed; always returns, and leaves no process behind.

    Writes `program.py`, `log.txt` and `result.json` into the job's folder. OSError where that is impossible.
    """
    referee = _Referee(job, spectator)
    with _candidate(job) as candidate:
        try:
            with watchdog(job.track.budget.limit):
                referee.train(candidate)
                val_bpb = referee.score(candidate)
                referee.check_cpu(candidate)
            outcome: tuple[float | None, Outcome | None, str, str] = (val_bpb, None, "", "")
        except TimeoutError:
            outcome = None, Outcome.TIMED_OUT, f"{referee.where()} after {job.track.budget.limit:g} s", ""
        except Failed as failed:
            outcome = None, failed.outcome, failed.reason, failed.detail
        except Died as died:
            outcome = None, Outcome.CRASHED, *died.args
        except Killed as killed:
            outcome = None, Outcome.OUT_OF_MEMORY, f"{killed.args[0]}; {remedy(job.source)}", killed.args[1]
        except Forged as forged:
            outcome = None, Outcome.DISQUALIFIED, str(forged), ""
        result = referee.result(candidate, *outcome)
    release_device(job)
    (job.folder / "result.json").write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return result


def release_device(job: Job) -> None:
    """Give back what scoring took of the device: the next run is to have all of it."""
    if job.route == Route.DEVICE:
        import torch

        torch.cuda.empty_cache()


def rehearse(
    job: Job, watchdog: Watchdog, spectator: Callable[[Progress], None] = lambda progress: None
) -> Path | None:
    """Have a program compile what it compiles, on rows of random tokens: whatever it keeps, it has seen no text.

    Returns the folder of compiled code, or None where it came to nothing: then the run itself will say why.
    """
    track = job.track
    budget = Budget(REHEARSAL_STEPS, "steps", track.budget.startup, track.budget.startup)  # it is no more than that
    job = replace(job, track=replace(track, budget=budget), route=Route.NOWHERE)
    referee = _Referee(job, spectator, rehearses=True)
    with _candidate(job) as candidate, suppress(TimeoutError, Failed, Died, Killed, Forged), watchdog(budget.limit):
        referee.train(candidate)
        candidate.send({"rows": track.batch_size})
        if candidate.receive(lambda: None).get("event") == "logits":
            candidate.keep_compiled = True
    made = job.folder / "compiled"
    if candidate.keep_compiled:
        made.mkdir(exist_ok=True)
        return made
    return None


def _candidate(job: Job) -> Candidate:
    """Start the process of a job, in an empty folder that holds its program."""
    from pytest_autoresearch.core import exchange  # here and not above: collection must not import torch

    remove_tree(job.folder)
    job.folder.mkdir(parents=True)
    (job.folder / "program.py").write_text(job.source, encoding="utf-8")
    track = job.track
    tokens, logits = exchange.Exchange.sizes(track.batch_size, track.sequence_length, track.vocab_size)
    shared = tokens + logits * (job.route == Route.HOST)
    memory_limit = track.memory if track.device == "cpu" else None  # elsewhere it is the device's
    return Candidate(job.folder, shared, job.sandbox, memory_limit, job.compiled)


class _Referee:
    """One run as the trusted side sees it."""

    def __init__(self, job: Job, spectator: Callable[[Progress], None], rehearses: bool = False) -> None:
        self.job = job
        self.rehearses = rehearses
        self.spectator = spectator
        self.began = time.monotonic()
        self.meter = Meter(job.track.budget, self.began, compiles=job.track.device != "cpu")
        self.stage = "starting"
        self.loss = math.nan
        self.losses: list[list[float]] = [[] for _ in range(CURVE_POINTS)]
        self.scalars: dict[str, float | None] = {}
        self.luck: list[str] = []
        self.trained = False
        self.device_memory = 0  # bytes, as the candidate says
        self.own_device_memory = 0
        self.first_answer = 0.0
        self.scoring_began = math.nan

    def train(self, candidate: Candidate) -> None:
        """Follow the candidate until it has trained. Failed where it has not."""
        track = self.job.track
        rows = _random_rows(track) if self.rehearses else self.job.data.open_train_rows()  # before the clock starts
        try:
            self._train(candidate, rows)
        finally:
            os.close(rows)
        if reason := self.meter.overspent():
            raise Failed(Outcome.DISQUALIFIED, reason)
        self.check_cpu(candidate)

    def _train(self, candidate: Candidate, rows: int) -> None:
        track = self.job.track
        candidate.send(
            {
                "program": str(self.job.folder / "program.py"),
                "seed": self.job.seed,
                "device": track.device,
                "threads": threads(),
                "budget": asdict(track.budget),
                "memory": track.memory,
                "batch_size": track.batch_size,
                "sequence_length": track.sequence_length,
                "vocab_size": track.vocab_size,
                "route": self.job.route,
            }
        )
        while not self.trained:
            message = candidate.receive(self.show)
            now = time.monotonic()
            try:
                self.take(message, now, candidate, rows)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                raise Failed(Outcome.DISQUALIFIED, f"sent an unreadable message: {str(message)[:80]}") from None

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

    def take(self, message: dict[str, Any], now: float, candidate: Candidate, rows: int) -> None:
        match message["event"]:
            case "start":
                if self.stage != "starting":
                    raise ValueError(message)
                self.meter.start(now)
                self.stage = "training"
                self.luck = [str(digest) for digest in message["luck"]]
                if len(self.luck) != 3:
                    raise ValueError(message)
                candidate.send_file(rows)
            case "step":
                tokens, flop = message["tokens"], message["flop"]
                if not (is_count(tokens) and is_count(flop) and tokens and flop >= self.meter.flop):
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
                flop, memory = message["flop"], message["memory"]
                if not (is_count(flop) and flop >= self.meter.flop and is_count(memory)):
                    raise ValueError(message)
                self.device_memory = memory
                self.meter.finish(flop, now)
                self.trained = True
            case "failed":
                raise crash(message, self.job.source, self.job.track.memory)
            case other:
                raise ValueError(other)

    def score(self, candidate: Candidate) -> float:
        """val_bpb of the model that the candidate serves."""
        from pytest_autoresearch.referee.model_client import Served

        self.stage = "scoring"
        self.scoring_began = time.monotonic()
        free, track = self.job.first_answer, self.job.track
        if free is None:
            compiles = track.device != "cpu" or track.budget.unit in ("steps", "tokens")
            free = self.meter.free_seconds_left if compiles else 0.0
        served = Served(self.job, candidate, self.meter.flop, free)
        try:
            return served.score(lambda share: self.spectator(Progress("scoring", share, self.loss)))
        finally:
            self.device_memory = max(self.device_memory, served.memory)
            self.own_device_memory = served.own_memory
            self.first_answer = served.first_answer

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
        usage, now = candidate.look(), time.monotonic()
        return Result(
            seed=self.job.seed,
            val_bpb=val_bpb,
            failure=failure,
            reason=reason,
            detail=detail,
            steps=self.meter.steps,
            tokens=self.meter.tokens,
            flop=self.meter.flop,
            spent=round(self.meter.spent, 3),
            free_seconds=round(self.meter.free_seconds, 3),
            first_answer=round(self.first_answer, 3),
            training_seconds=round(self.meter.training_seconds, 3),
            scoring_seconds=round(_finite(now - self.scoring_began) or 0.0, 3),
            seconds=round(now - self.began, 3),
            cpu_seconds=round(usage.cpu, 2),
            memory_gb=round((usage.peak_memory if self.job.track.device == "cpu" else self.device_memory) / 1e9, 3),
            referee_memory_gb=round(self.own_device_memory / 1e9, 3),
            isolation=self.job.isolation,
            luck=self.luck,
            curve=[_finite(sum(losses) / len(losses)) if losses else None for losses in self.losses],
            scalars=self.scalars,
        )


def _random_rows(track: Track) -> int:
    """A file of rows of random tokens, by its descriptor."""
    import numpy as np

    shape = REHEARSAL_ROWS, track.sequence_length + 1
    with tempfile.TemporaryFile() as file:
        file.write(np.random.default_rng().integers(0, track.vocab_size, shape, np.uint16).tobytes())
        file.flush()
        return os.dup(file.fileno())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers


class LocalExecutor:
    def __init__(self, root: Path) -> None: ...
    def isolation(self, wanted: str, device: str) -> Any: ...
    def run(self, spec: Any, on_progress: Any) -> Any: ...
