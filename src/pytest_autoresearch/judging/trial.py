"""Trials: one run of a program on the search seed, paired with the baseline's run on it. A trial is no finding.

A sweep tries many programs, and the best of many draws is lucky. So no verdict uses the search seed, and what is best
on it is judged anew on the seeds of the verdict.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.judge import Judge, Judgement, check_source, verdict_on
from pytest_autoresearch.judging.plan import Plan, replay
from pytest_autoresearch.judging.verdict import Decision
from pytest_autoresearch.programs.experiment import Experiment, Program
from pytest_autoresearch.referee.executor import RunResult

SEARCH_SEED = 1_000_000
"""The seed of every trial. Verdicts use the seeds from 0 on."""
LEAST_EXCESS = 0.1
"""The least excess (GB) that is assumed of a run that ran out of memory."""


@dataclass(frozen=True)
class Trials:
    """Has programs tried within the limits that the baseline's `record` sets. A program is tried once."""

    context: Context
    judge: Judge
    record: Record

    def plan(self, experiment: Experiment, program: Program) -> Plan:
        """The plan of a trial, with the verdict to replay if the program has been tried."""
        key = self._key(program)
        rerun = self.context.options.rerun and program.code_sha != self.context.baseline_program.code_sha
        known = None if rerun else replay(self.context, experiment, key)
        if known:
            known = replace(known, constants=experiment.constants)  # another point may have the same program
        return Plan(experiment, program, key, known, note="")

    def run(self, plan: Plan) -> Verdict:
        """The verdict of a trial, replayed or trained. UsageError if the baseline has no score on the search seed."""
        if plan.replayed:
            return plan.replayed
        context, search = self.context, self.search_record
        folder = context.evidence.of(context.track.name, plan.experiment.name, plan.program.sha)
        with context.evidence.lock(plan.key), context.evidence.lock(context.relative(folder)):
            if again := self.plan(plan.experiment, plan.program).replayed:
                return again  # another process has tried it while this one waited
            self.judge.monitor.say(f"{plan.experiment.name}: {plan.experiment.constants}")
            verdict = verdict_on(context, plan, self._judgement(plan, search.scores[0]), search)
            context.evidence.save(verdict)
        return verdict

    @cached_property
    def search_record(self) -> Record:
        """What the baseline scores on the search seed. It is trained for that once on each platform."""
        context, program = self.context, self.context.baseline_program
        experiment = Experiment("baseline", context.baseline.path, program.source, "baseline", False, None)
        plan = self.plan(experiment, program)
        verdict = plan.replayed
        if verdict is None:
            with context.evidence.lock(plan.key):
                verdict = self.plan(experiment, program).replayed or self._baseline(plan)
        return replace(self.record, stats=verdict.stats)

    def _baseline(self, plan: Plan) -> Verdict:
        result, _ = self._trained("baseline", plan.program)
        if result.val_bpb is None:
            path = self.context.baseline.path
            raise UsageError(f"{path}: the baseline itself {result.failure} on the search seed: {result.reason}")
        judgement = Judgement(Outcome.TRIED, "the baseline on the search seed", Decision(None, 0.0), [result])
        verdict = verdict_on(self.context, plan, judgement, replace(self.record, stats=judgement.stats))
        self.context.evidence.save(verdict)
        return verdict

    def _judgement(self, plan: Plan, baseline: float) -> Judgement:
        if failed := check_source(self.context, plan.experiment, plan.program):
            return Judgement(*failed, Decision(None), [])
        result, tried_again = self._trained(plan.experiment.name, plan.program)
        failed = self.judge.check_run([result], self.record)
        if failed or result.val_bpb is None:
            return Judgement(*(failed or (Outcome.CRASHED, "no score")), Decision(None), [result], tried_again)
        delta = result.val_bpb - baseline
        why = f"{'below' if delta < 0 else 'not below'} the baseline on the search seed"
        return Judgement(Outcome.TRIED, why, Decision(None, delta), [result], tried_again)

    def _trained(self, name: str, program: Program) -> tuple[RunResult, str]:
        """The result of the run, and a note if it was tried again."""
        result, tried_again = self.judge.run(name, program, SEARCH_SEED, self.record), ""
        if result.interrupted:
            tried_again = f"it was tried again, since its first run was {result.reason}"
            result = self.judge.run(name, program, SEARCH_SEED, self.record, again=True)
        return result, tried_again

    def _key(self, program: Program) -> str:
        """A digest of all that determines what a trial scores: program, baseline, track, data, platform, isolation."""
        context, track = self.context, self.context.track
        limits = [track.budget.limit, track.batch_size, track.memory, track.max_memory_growth, track.token_factor]
        setting = [context.fingerprint, *limits, context.isolation.kind]
        return digest(["trial", SEARCH_SEED, program.code_sha, context.baseline_program.code_sha, setting])

    def memory_excess(self, verdict: Verdict) -> float | None:
        """By how many GB a trial's memory is over what the track allows, at most 0 if it is not; None if unknown."""
        track, used = self.context.track, verdict.stats.peak_memory_gb
        baseline_gb = self.record.stats.peak_memory_gb
        allowed = [track.memory] if track.memory else []
        allowed += [baseline_gb * (1 + track.max_memory_growth)] if track.max_memory_growth else []
        excess = used - min(allowed) if allowed and used else None
        if verdict.outcome is Outcome.OUT_OF_MEMORY:
            return max(excess or 0.0, LEAST_EXCESS)  # what did not fit was never measured
        return excess
