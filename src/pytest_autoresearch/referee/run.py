"""The referee of one run: follows the candidate through training, then scores the model that it serves."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict

from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.budget import Meter
from pytest_autoresearch.core.protocol import Batch, Draw, Logged, Message, Raised, Saved, Started, Trained
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import threads
from pytest_autoresearch.referee.executor import RunProgress, RunResult
from pytest_autoresearch.referee.failures import Failed, crash, oom_hint, unexpected
from pytest_autoresearch.referee.job import LocalJob
from pytest_autoresearch.referee.process import Candidate, Forged, MemoryExceeded, ProcessExited
from pytest_autoresearch.referee.run_files import RunLog, SavedFiles, empty_folder
from pytest_autoresearch.referee.usage import Usage

CURVE_POINTS = 100
OTHERS_CPU = 1.0
"""Under a budget in flop, a program's child processes may use so many CPU seconds: nothing counts their flop."""
COMPILES_NOTHING = "torch.compile does nothing here: the budget is in flop, and compiled code cannot be counted"


class Referee:
    """The trusted side of one run."""

    def __init__(self, job: LocalJob, on_progress: Callable[[RunProgress], None]) -> None:
        from pytest_autoresearch.referee.batches import Batches  # not above: collection must not import NumPy

        self.job = job
        self._on_progress = on_progress
        self._began = time.monotonic()
        compiles = job.track.device != "cpu"
        self._meter = Meter(job.track.budget, self._began, compiles, token_limit=job.spec.token_limit)
        self._batches = Batches(job.data.train_rows, job.spec.seed)
        self._stage = "starting"
        self._loss = math.nan
        self._losses = [(0.0, 0)] * CURVE_POINTS  # a sum and a number, because a program may log millions
        self._scalars: dict[str, float | None] = {}
        self._rng_digest: list[str] = []
        self._saved = SavedFiles()
        self._device_memory = 0  # the candidate's peak bytes, by its own account
        self._own_device_memory = 0
        self._first_answer = 0.0
        self._scored = 0.0  # the share of the held-out text
        self._scoring_began = math.nan
        self._row_nats: list[float] = []

    def run(self) -> RunResult:
        """Train and score; leaves no process behind. Writes the evidence into the job's folder, or raises OSError."""
        empty_folder(self.job.folder, self.job.spec.source)
        log = RunLog(self.job.folder / "log.txt")
        with self._start(log) as candidate:
            val_bpb, error = None, None
            try:
                self._train(candidate)
                if self._meter.refused_for_tokens:
                    log.note(f"its batches ended after {self._meter.tokens:,} tokens: a run may draw no more here")
                val_bpb = self._score(candidate)
                self._check_cpu(candidate.look(full=True))
            except (TimeoutError, Failed, ProcessExited, MemoryExceeded, Forged) as caught:
                val_bpb, error = None, caught
            usage = candidate.end()  # first of all, whatever has happened
            result = self._result(usage, val_bpb, self._failure(error) if error else None)
        if self.job.track.device == "cuda":
            import torch

            torch.cuda.empty_cache()  # leave all of the device to the next run
        self._saved.write(self.job.folder / "saved")
        (self.job.folder / "result.json").write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
        return result

    def _start(self, log: RunLog) -> Candidate:
        """Start the candidate's process, whose output goes into `log`."""
        from pytest_autoresearch.core.exchange import Exchange  # not above: collection must not import torch

        track, folder = self.job.track, self.job.folder
        if track.budget.unit == "flop" and "torch.compile" in self.job.spec.source:
            log.note(COMPILES_NOTHING)
        tokens, logits = Exchange.sizes(track.batch_size, track.sequence_length, track.vocab_size)
        return Candidate(
            folder / "program.py",
            log,
            buffer_size=tokens + logits * (not self.job.shares_device),
            sandbox=self.job.sandbox,
            on_cpu=track.device == "cpu",
            memory_limit=track.memory,
            deadline=self._began + track.budget.limit,
            tick=self._show,
        )

    # -- training --

    def _train(self, candidate: Candidate) -> None:
        """Follow the candidate until it has trained. Failed if it breaks a rule, or an exception ends it."""
        candidate.send(self._first_message())
        while self._stage != "trained":
            message = candidate.receive()
            now = time.monotonic()
            if isinstance(message, Draw):
                rows = self._draw(message, now)
                candidate.send(Batch(len(rows), self._meter.progress), rows)
            else:
                self._handle_message(message, now)
        if reason := self._meter.overspent():
            raise Failed(Outcome.DISQUALIFIED, reason)
        self._check_cpu(candidate.look(full=True))

    def _first_message(self) -> protocol.Job:
        track = self.job.track
        return protocol.Job(
            seed=self.job.spec.seed,
            device=track.device,
            threads=threads(),
            budget=track.budget,
            memory=track.memory,
            batch_size=track.batch_size,
            sequence_length=track.sequence_length,
            vocab_size=track.vocab_size,
            train_tokens=self.job.data.train_rows.size,
            shares_device=self.job.shares_device,
        )

    def _handle_message(self, message: Message, now: float) -> None:
        """Handle one message of training that arrived at `now` (monotonic seconds). Failed."""
        meter = self._meter
        match message:
            case Started() if self._stage == "starting":
                meter.start(now)
                self._stage = "training"
                self._rng_digest = message.rng_digest
            case Logged():
                self._handle_log(message)
            case Saved():
                try:
                    self._saved.add(message)
                except ValueError as error:  # the candidate's own side checks, too
                    raise Failed(Outcome.DISQUALIFIED, f"sent a file that `run.save` would not send: {error}") from None
            case Trained() if message.flop >= meter.flop:
                self._device_memory = message.memory
                meter.finish(message.flop, now)
                self._stage = "trained"
            case Raised():
                raise crash(message, self.job.spec.source, self.job.track.memory)
            case _:
                raise unexpected(message)

    def _draw(self, wanted: Draw, now: float) -> bytes:
        """The tokens of the batch that a program asks for; none if its budget is spent. Failed."""
        if self._stage != "training" or wanted.flop < self._meter.flop:
            raise unexpected(wanted)
        granted = self._meter.draw(wanted.batch_size * wanted.sequence_length, wanted.flop, now)
        try:
            return self._batches.draw(wanted.batch_size, wanted.sequence_length).tobytes() if granted else b""
        except ValueError as error:  # the candidate's own side checks, too
            reason = f"asked for a batch that `run.batches` would not ask for: {error}"
            raise Failed(Outcome.DISQUALIFIED, reason) from None

    def _handle_log(self, message: Logged) -> None:
        self._loss = message.loss
        if not math.isfinite(self._loss):
            raise Failed(Outcome.DIVERGED, f"loss is {self._loss} in step {self._meter.steps + 1}")
        bucket = min(CURVE_POINTS - 1, int(self._meter.progress * CURVE_POINTS))
        total, count = self._losses[bucket]
        self._losses[bucket] = total + self._loss, count + 1
        self._scalars = {name: _finite(value) for name, value in message.scalars.items()}

    def _check_cpu(self, usage: Usage) -> None:
        """Failed if too much CPU time was used under a budget in flop.

        Only torch's flop in the program's own process are counted. CPU time shows all other work.
        """
        limit = self.job.spec.cpu_limit
        if self.job.track.budget.unit != "flop":
            return
        if usage.cpu_of_others > OTHERS_CPU:
            reason = f"{usage.cpu_of_others:.1f} CPU seconds in processes that it started, whose flop are not counted"
            raise Failed(Outcome.DISQUALIFIED, reason)
        if limit and usage.cpu > limit:
            reason = f"{usage.cpu:.0f} CPU seconds; {limit:.0f} are allowed, from what the baseline takes"
            raise Failed(Outcome.TIMED_OUT, reason)

    # -- scoring --

    def _score(self, candidate: Candidate) -> float:
        """val_bpb of the model that the candidate serves; keeps the nats of the rows. Failed."""
        from pytest_autoresearch.referee.model_client import Served

        self._stage = "scoring"
        self._scoring_began = time.monotonic()
        candidate.mute()  # else a program could print which rows are no decoys, for a later program
        free, track = self.job.spec.first_answer, self.job.track
        if free is None:
            compiles = track.device != "cpu" or track.budget.unit in ("steps", "tokens")
            free = track.budget.startup - self._meter.free_seconds if compiles else 0.0
        served = Served(self.job, candidate, self._meter.flop, free)
        try:
            score = served.score(self._show_scoring)
            self._row_nats = [round(nats, 4) for nats in score.row_nats.tolist()]
            return score.val_bpb
        finally:
            self._device_memory = max(self._device_memory, served.memory)
            self._own_device_memory = served.own_memory
            self._first_answer = served.first_answer

    # -- reporting --

    def _show(self) -> None:
        """Report the progress of the run."""
        if self._stage != "training":
            self._on_progress(RunProgress(self._stage, self._scored, self._loss))
            return
        done = self._meter.progress
        trained = max(self._meter.training_seconds, 1e-9)
        left = trained / done * (1 - done) if done else math.nan
        self._on_progress(RunProgress("training", done, self._loss, self._meter.tokens / trained, left))

    def _show_scoring(self, share: float) -> None:
        self._scored = share
        self._show()

    def _failure(self, error: Exception) -> Failed:
        """The outcome and the reason of an error that has ended the run."""
        match error:
            case Failed():
                return error
            case ProcessExited():
                interrupted = error.interrupted and self._stage != "scoring"  # there a program may know its score
                return Failed(Outcome.CRASHED, str(error), error.last_lines, interrupted)
            case MemoryExceeded():
                return Failed(Outcome.OUT_OF_MEMORY, f"{error}; {oom_hint(self.job.spec.source)}", error.last_lines)
            case Forged():
                return Failed(Outcome.DISQUALIFIED, str(error))
        done = f" ({self._meter.progress:.0%} of the budget)" if self._stage == "training" else ""
        return Failed(Outcome.TIMED_OUT, f"still {self._stage}{done} after {self.job.track.budget.limit:g} s")

    def _result(self, usage: Usage, val_bpb: float | None, failed: Failed | None) -> RunResult:
        now, meter = time.monotonic(), self._meter
        peak = usage.memory if self.job.track.device == "cpu" else self._device_memory
        return RunResult(
            seed=self.job.spec.seed,
            val_bpb=val_bpb,
            failure=failed.outcome if failed else None,
            reason=failed.reason if failed else "",
            detail=failed.detail if failed else "",
            interrupted=failed.interrupted if failed else False,
            steps=meter.steps,
            tokens=meter.tokens,
            flop=meter.flop,
            spent=round(meter.spent, 3),
            free_seconds=round(meter.free_seconds, 3),
            first_answer=round(self._first_answer, 3),
            training_seconds=round(meter.training_seconds, 3),
            scoring_seconds=round(_finite(now - self._scoring_began) or 0.0, 3),
            seconds=round(now - self._began, 3),
            cpu_seconds=round(usage.cpu, 2),
            memory_gb=round(peak / 1e9, 3),
            referee_memory_gb=round(self._own_device_memory / 1e9, 3),
            isolation=self.job.isolation,
            rng_digest=self._rng_digest,
            curve=[_finite(total / count) if count else None for total, count in self._losses],
            scalars=self._scalars,
            row_nats=self._row_nats,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers
