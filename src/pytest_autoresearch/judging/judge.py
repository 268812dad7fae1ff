"""Judging: a program is trained seed by seed until its scores, or what it did, make the verdict clear."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.judging.baseline import Record
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.judging.verdict import Decision, decide
from pytest_autoresearch.programs.experiment import Experiment, Program, code_lines, own_luck, sha256
from pytest_autoresearch.referee.executor import Executor, JobSpec
from pytest_autoresearch.referee.executor import RunProgress as Progress
from pytest_autoresearch.referee.executor import RunResult as Result

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared
Watchdog = Callable[[float], AbstractContextManager[None]]

OWN_LUCK = "random numbers must follow from run.seed, which the harness has seeded them with"
FACTOR, SLACK = 2.0, 5.0
"""So many times what the baseline takes, and so many seconds more, a run may use of what its budget does not count: CPU
seconds under a budget in flop (elementwise operations, NumPy, code of its own), and on a GPU, where compiled code comes
from a rehearsal, seconds to start: what they are beyond that is charged."""


class Spectators(Protocol):
    """Who watches: the terminal, or nobody."""

    def watch(self, label: str) -> AbstractContextManager[Callable[["Progress"], None]]:
        """What to call with the progress of one run."""

    def preparing(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """What to call with the progress (stage, 0 to 1) of preparing the data."""

    def recorded(self, record: Record) -> None:
        """The baseline has been recorded."""


@dataclass(frozen=True)
class Ruling:
    """What a program earned, why, and the runs that it took."""

    outcome: Outcome
    reason: str
    decision: Decision
    results: list["Result"]


@dataclass(frozen=True)
class Judge:
    """Has programs of one track trained, and rules on what comes of it."""

    track: Track
    data: "Prepared"
    executor: Executor
    isolation: str
    ledger: Ledger
    watchdog: "Watchdog"
    spectators: Spectators

    def run(self, name: str, source: str, seed: int, record: Record | None = None) -> "Result":
        """Train a program with one seed, within limits from the baseline's `record`; the evidence goes by its name."""
        folder = self.ledger.evidence(self.track.name, name, sha256(source)) / f"seed-{seed}"
        track, budget, cpu_limit, first_answer = self.track, self.track.budget, None, None
        if record and record.cpu_seconds and budget.unit == "flop":
            cpu_limit = FACTOR * record.cpu_seconds + SLACK
        if record and record.free_seconds and budget.unit == "s" and track.device != "cpu":
            startup = min(budget.startup, FACTOR * record.free_seconds + SLACK)
            track = replace(track, budget=replace(budget, startup=startup))
            first_answer = FACTOR * record.first_answer + SLACK
        evidence = folder.relative_to(self.ledger.folder.parent).as_posix()
        spec = JobSpec(source, seed, track, self.data.key, evidence, self.isolation, cpu_limit, first_answer)
        with (
            self.watchdog(budget.limit + 60),
            self.spectators.watch(f"{name} seed {seed + 1}/{self.track.seeds}") as spectator,
        ):
            return self.executor.run(spec, spectator)

    def judge(self, experiment: Experiment, program: Program, baseline_source: str, record: Record) -> Ruling:
        """Train the program with seed 0, 1, … until it is clear what it has earned. UsageError: it cannot be judged."""
        for old in self.ledger.evidence(self.track.name, experiment.name, program.sha).glob("seed-*"):
            remove_tree(old)  # of an earlier judgement, with more seeds perhaps
        ruled = self._before(experiment, program, baseline_source)
        margin = (self.track.simplify_margin or 0.0) * experiment.simplifies
        decision = Decision(None)
        results: list[Result] = []
        while not ruled:
            results.append(self.run(experiment.name, program.source, len(results), record))
            scores = [result.val_bpb for result in results if result.val_bpb is not None]
            decision = decide(record.scores, scores, self.track.alpha, self.track.noise, margin)
            ruled = self._after(results, record) or ((decision.outcome, decision.reason) if decision.outcome else None)
        return Ruling(*ruled, decision, results)

    def _before(self, experiment: Experiment, program: Program, baseline_source: str) -> tuple[Outcome, str] | None:
        """What can be said of a program without training it."""
        if call := own_luck(program.source):
            return Outcome.DISQUALIFIED, f"`{call}`: {OWN_LUCK}"
        if experiment.simplifies:
            if not self.track.simplify_margin:
                track = self.track.folder / "track.toml"
                raise UsageError(f'{experiment.path}: GOAL = "simplify" needs simplify_margin in {track}')
            try:
                lines, before = code_lines(program.source), code_lines(baseline_source)
            except RecursionError:
                raise UsageError(f"{experiment.path}: its lines of code cannot be counted: nested too deeply") from None
            if lines >= before:
                return Outcome.DISCARDED, f"is no simpler: {lines} lines of code, the baseline has {before}"
        return None

    def _after(self, results: list["Result"], record: Record) -> tuple[Outcome, str] | None:
        """What the latest run says, apart from its score."""
        last, growth = results[-1], self.track.max_memory_growth
        if last.failure:
            return last.failure, last.reason
        if any(
            mine == theirs
            for other in results[:-1]
            for mine, theirs in zip(last.rng_digest, other.rng_digest, strict=False)
        ):
            return Outcome.DISQUALIFIED, f"the same random numbers for seed {last.seed} as for another: {OWN_LUCK}"
        if growth and last.memory_gb > record.memory_gb * (1 + growth):
            more = f"{last.memory_gb:.1f} GB, the baseline {record.memory_gb:.1f} GB"
            return Outcome.DISCARDED, f"takes too much memory: {more}, {growth:.0%} more is allowed"
        return None
