"""Judging: train a program seed by seed until its scores, or its failure, decide the verdict."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from shutil import rmtree

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Outcome, Record, RunStats, Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.monitor import RunMonitor
from pytest_autoresearch.judging.plan import Plan
from pytest_autoresearch.judging.verdict import Decision, decide
from pytest_autoresearch.programs.compare import line_counts
from pytest_autoresearch.programs.experiment import Experiment, Program
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.seeds import find_fixed_seed
from pytest_autoresearch.programs.size import compare_sizes
from pytest_autoresearch.referee.executor import JobSpec, RunProgress, RunResult

FIXED_SEED = "random numbers must come from run.seed, and are seeded with it already"
FACTOR, SLACK = 2.0, 5.0
"""Limits on what a budget does not count: FACTOR times the baseline's seconds, and SLACK seconds more. Under a budget
in flop these are CPU seconds (elementwise operations, NumPy, code of its own). On a GPU they are the seconds to start
and compile: more of them are charged."""
GRACE = 15.0
"""Seconds after a run's limit in which the referee has to end it by itself, before pytest-timeout ends it."""


@dataclass(frozen=True)
class Judgement:
    """What a program earned, why, and its runs."""

    outcome: Outcome
    reason: str
    decision: Decision
    results: list[RunResult]
    tried_again: str = ""
    """Which run was tried again, and why."""

    @property
    def stats(self) -> RunStats:
        return RunStats.of(self.results)

    @property
    def detail(self) -> str:
        """The detail of the last run, for example a traceback."""
        return self.results[-1].detail if self.results else ""


@dataclass(frozen=True)
class Judge:
    """Has programs of one track trained, and judges them by the results."""

    context: Context
    monitor: RunMonitor

    def run(
        self, name: str, program: Program, seed: int, record: Record | None = None, again: bool = False
    ) -> RunResult:
        """Train a program with one seed, within limits from the baseline's `record`. Evidence goes by `name`.

        `again`: a signal from outside may have ended the first try. An experiment gets one such second try, because a
        program can also send the signal itself when its luck is bad.
        """
        track, evidence = self.context.track, self.context.evidence
        spec = JobSpec(
            program.source,
            seed,
            track,
            self.context.data_key,
            self.context.relative(evidence.of(track.name, name, program.sha) / f"seed-{seed}"),
            self.context.options.sandbox,
            baseline_nats=evidence.row_nats(track.name, record.program_sha, seed) if record else None,
        )
        which = f"run {seed + 1}/{track.seeds}" if seed < track.seeds else "on the search seed"
        label = f"{name} {which}" + " again" * again
        return self._run(label, within_limits(spec, record))

    def _run(self, label: str, spec: JobSpec) -> RunResult:
        seconds = spec.track.budget.limit + GRACE
        try:
            with ExitStack() as stack:
                show = stack.enter_context(self.monitor.run_began(label))
                guard = cache(lambda: stack.enter_context(self.monitor.guard(seconds)))

                def on_progress(progress: RunProgress) -> None:
                    guard()  # once, and not earlier: until its first progress a run may wait for the device
                    show(progress)

                result = self.context.executor.run(spec, on_progress)
        except TimeoutError:
            reason = f"pytest-timeout ended the run after {seconds:g} s"
            result = RunResult(spec.seed, None, Outcome.TIMED_OUT, reason, seconds=seconds)
        self.monitor.run_ended(label, result)
        return result

    def judge(self, experiment: Experiment, program: Program, record: Record) -> Judgement:
        """Train the program with seeds 0, 1, … until the verdict is clear. UsageError if it cannot be judged."""
        track = self.context.track
        for old in self.context.evidence.of(track.name, experiment.name, program.sha).glob("seed-*"):
            rmtree(old, ignore_errors=True)  # of an earlier judgement, with more seeds perhaps
        judged = check_source(self.context, experiment, program)
        lost = self.context.baseline.lost(record) if experiment.simplifies else 0.0
        margin = (track.simplify_margin or 0.0) - lost if experiment.simplifies else 0.0
        decision = Decision(None)
        results: list[RunResult] = []
        tried_again = ""
        while not judged:
            result = self.run(experiment.name, program, len(results), record)
            if result.interrupted and not tried_again:
                tried_again = f"seed {len(results)} was tried again, since its first run was {result.reason}"
                result = self.run(experiment.name, program, len(results), record, again=True)
            results.append(result)
            scores = RunStats.of(results).scores
            decision = decide(record.scores, scores, track.alpha, track.noise, margin)
            judged = self.check_run(results, record)
            if not judged and decision.outcome:
                reason = self._simplified(decision, program, lost) if experiment.simplifies else decision.reason
                judged = decision.outcome, reason
        return Judgement(*judged, decision, results, tried_again)

    def _simplified(self, decision: Decision, program: Program, lost: float) -> str:
        """The reason for the verdict on a simpler program: how much simpler it is, and from where its margin counts."""
        _, sizes = compare_sizes(program.source, self.context.baseline_program.source)
        reason = f"simpler ({sizes}) and {decision.reason}" if decision.outcome is Outcome.KEPT else decision.reason
        margin = f"{self.context.track.simplify_margin:g}"
        left = f"; the margin of {margin} is from the best record so far, {lost:.4f} below the baseline's"
        return reason + left * bool(lost)

    def check_run(self, results: Sequence[RunResult], record: Record) -> tuple[Outcome, str] | None:
        """The outcome and reason, if the latest run decides them by anything but its score."""
        *earlier, last = results
        growth, baseline_gb = self.context.track.max_memory_growth, record.stats.peak_memory_gb
        if last.failure:
            return last.failure, last.reason
        pairs = (pair for other in earlier for pair in zip(last.rng_digest, other.rng_digest, strict=False))
        if any(mine == theirs for mine, theirs in pairs):
            return Outcome.DISQUALIFIED, f"the same random numbers for seed {last.seed} as for another: {FIXED_SEED}"
        if growth and last.memory_gb > baseline_gb * (1 + growth):
            more = f"{last.memory_gb:.1f} GB, the baseline {baseline_gb:.1f} GB"
            return Outcome.DISCARDED, f"takes too much memory: {more}, {growth:.0%} more is allowed"
        return None


def check_source(context: Context, experiment: Experiment, program: Program) -> tuple[Outcome, str] | None:
    """The outcome and reason, if they are clear without training the program. UsageError if it cannot be judged."""
    if found := find_fixed_seed(program.source):
        line, call = find_fixed_seed(experiment.source) or found
        return Outcome.DISQUALIFIED, f"{context.relative(experiment.path)}:{line}: `{call}`: {FIXED_SEED}"
    if experiment.simplifies:
        if not context.track.simplify_margin:
            path = context.track.folder / "track.toml"
            raise UsageError(f'{experiment.path}: GOAL = "simplify" needs simplify_margin in {path}')
        is_simpler, sizes = compare_sizes(program.source, context.baseline_program.source)
        if not is_simpler:
            return Outcome.DISCARDED, f"is no simpler: {sizes}"
    return None


def verdict_on(context: Context, plan: Plan, judgement: Judgement, record: Record) -> Verdict:
    """The verdict on a planned experiment, to be saved: the judgement, compared with what the baseline scored."""
    experiment, program, stats = plan.experiment, plan.program, judgement.stats
    baseline = context.baseline_program
    added, removed = line_counts(baseline.source, program.source)
    memory, baseline_memory = stats.peak_memory_gb, record.stats.peak_memory_gb
    return Verdict(
        experiment=experiment.name,
        description=experiment.description,
        track=context.track.name,
        outcome=judgement.outcome,
        reason=judgement.reason,
        detail=judgement.detail,
        stats=stats,
        delta=judgement.decision.delta,
        p_value=judgement.decision.p_value,
        baseline_scores=record.scores,
        memory_growth=memory / baseline_memory - 1 if memory and baseline_memory else None,
        changes=changed_names(baseline.source, program.source),
        lines_added=added,
        lines_removed=removed,
        experiment_sha=experiment.sha,
        program_sha=program.sha,
        baseline_sha=baseline.sha,
        key=plan.key,
        platform=context.platform,
        evidence=context.relative(context.evidence.of(context.track.name, experiment.name, program.sha)),
        finished_at=now("microseconds"),
        simplifies=experiment.simplifies,
        provisional=bool(context.provisional),
        tried_again=judgement.tried_again,
        note=plan.note,
        constants=experiment.constants,
    )


def within_limits(spec: JobSpec, record: Record | None) -> JobSpec:
    """The job with limits on what its budget does not count, from the baseline's runs; no limits without a record.

    They limit CPU seconds and the tokens that are read under a budget in flop, and starting and compiling on a GPU
    under a budget in seconds.
    """
    if record is None:
        return spec
    track, budget, stats = spec.track, spec.track.budget, record.stats
    if budget.unit == "flop" and any(stats.cpu_seconds):
        cpu_limit = FACTOR * stats.mean("cpu_seconds") + SLACK
        return replace(spec, cpu_limit=cpu_limit, token_limit=track.token_factor * stats.mean("tokens") or None)
    if budget.unit == "s" and track.device != "cpu" and any(stats.free_seconds):
        startup = min(budget.startup, FACTOR * stats.mean("free_seconds") + SLACK)
        return replace(
            spec,
            track=replace(track, budget=replace(budget, startup=startup)),
            first_answer=FACTOR * max(stats.first_answer) + SLACK,
        )
    return spec
