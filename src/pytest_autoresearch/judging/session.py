"""One session: what the hooks delegate to. Records the baseline, judges, logs and promotes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.judging.baseline import Record, mean_curve
from pytest_autoresearch.judging.context import Setting
from pytest_autoresearch.judging.judge import OWN_LUCK, Judge, Spectators
from pytest_autoresearch.judging.ledger import Verdict
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.programs.experiment import (
    Experiment,
    Program,
    line_counts,
    own_luck,
    read_experiment,
    same_program,
    sha256,
)
from pytest_autoresearch.programs.splice import unmatched_names, unreachable_overrides

if TYPE_CHECKING:
    from pytest_autoresearch.data.prepare import Prepared
    from pytest_autoresearch.judging.judge import Watchdog
    from pytest_autoresearch.referee.executor import RunResult as Result


class NotJudged(Exception):
    """An experiment that is not to be judged now, and why. `unchanged`: its program equals the baseline."""

    def __init__(self, reason: str, unchanged: bool = False) -> None:
        super().__init__(reason)
        self.unchanged = unchanged


@dataclass(frozen=True)
class Promotion:
    """What a session's end did to the baseline."""

    verdict: Verdict
    before: float
    after: float
    path: Path


class Session(Setting):
    """Judges experiments of one project on one track, logs what comes of it and promotes the best."""

    def __init__(self, project: Project, options: Options) -> None:
        super().__init__(project, options)
        self.verdicts: list[Verdict] = []
        self.promotion: Promotion | None = None
        self.baseline_before: Record | None = None
        self.notes: list[str] = []
        self.finished = False
        self.data: Prepared
        self._ready = False
        self._began = now()

    # -- before the first run --

    def make_ready(self, watchdog: "Watchdog", spectators: Spectators) -> None:
        """Prepare the data and record the baseline where that is still to do. UsageError says why it cannot be done."""
        if self.problem:
            raise UsageError(self.problem)
        if self._ready:
            return
        try:
            self.isolation  # noqa: B018  looked up first: where they must be and are not, nothing is trained
            with spectators.preparing() as progress:
                self.data = self.prepare(progress)
            if self.options.record or len(self.stored_record().scores) < self.track.seeds:
                self._record_baseline(watchdog, spectators)
            if len(self.record.scores) < self.track.seeds:  # looked at now, before anybody can move it
                raise UsageError(f"{self.baseline.path}: another session has changed it meanwhile; start again")
            self._ready = True
        except UsageError as error:
            self.problem = self.shorten(error)
            raise UsageError(self.problem) from None
        except OSError as error:
            self.problem = f"{error.filename or self.ledger.folder}: {error.strerror or error}"
            raise UsageError(self.problem) from None

    def _record_baseline(self, watchdog: "Watchdog", spectators: Spectators) -> None:
        """Train the baseline with every seed that its record lacks."""
        with self.baseline.lock():  # of two sessions the second waits here, and then finds the record
            if self.baseline.source() != self.baseline_source:
                raise UsageError(f"{self.baseline.path}: another session has changed it meanwhile; start again")
            if call := own_luck(self.baseline_source):
                raise UsageError(f"{self.baseline.path}: `{call}`: {OWN_LUCK}")
            record = self.stored_record()
            if self.options.record and record.recorded_at < self._began:
                record = Record(record.program_sha, record.fingerprint)
            seeds = range(len(record.scores), self.track.seeds)
            if not seeds:
                return
            results: list[Result] = []
            for seed in seeds:
                result = self._judge_of(watchdog, spectators).run("baseline", self.baseline_source, seed)
                if result.val_bpb is None:
                    folder = self.ledger.evidence(self.track.name, "baseline", record.program_sha)
                    raise UsageError(
                        f"{self.baseline.path}: the baseline itself {result.failure} on seed {seed}: "
                        f"{result.reason} (see {self.relative(folder)})"
                    )
                results.append(result)
            runs = len(record.scores)
            record = replace(
                record,
                scores=[*record.scores, *(result.val_bpb for result in results if result.val_bpb is not None)],
                curve=mean_curve([result.curve for result in results]),
                memory_gb=max([record.memory_gb, *(result.memory_gb for result in results)]),
                seconds=_mean([record.seconds] * runs, [result.seconds for result in results]),
                cpu_seconds=_mean([record.cpu_seconds] * runs, [result.cpu_seconds for result in results]),
                free_seconds=_mean([record.free_seconds] * runs, [result.free_seconds for result in results]),
                first_answer=max([record.first_answer, *(result.first_answer for result in results)]),
                isolation=results[-1].isolation,
                recorded_at=now(),
            )
            self.baseline.write_record(record)
        spectators.recorded(record)

    # -- judging --

    def read(self, path: Path) -> Experiment:
        return read_experiment(path, self.project.experiments)

    def program(self, experiment: Experiment) -> Program:
        return experiment.program(self.baseline_source, self.baseline.path)

    def has_to_train(self, path: Path) -> bool:
        """Whether judging this file needs runs. UsageError where nothing can be judged: a bad track, no baseline."""
        self.baseline_source  # noqa: B018  looked at first, so that its faults are not taken for the experiment's
        try:
            experiment = self.read(path)
        except UsageError:
            return False
        try:
            return self.look_up(experiment) is None or self.options.record
        except NotJudged:
            return False

    def warnings(self, experiment: Experiment) -> list[str]:
        """What is odd about an experiment without being wrong."""
        if not experiment.is_overlay or unmatched_names(self.baseline_source, experiment.source):
            return []  # the latter is not judged at all
        unused = unreachable_overrides(self.program(experiment).source, experiment.source)
        return [f"changes nothing that `train` reaches: nothing there uses {', '.join(unused)}"] if unused else []

    def look_up(self, experiment: Experiment) -> Verdict | None:
        """The recorded verdict, or None when the experiment has to run. NotJudged when it has not."""
        if experiment.track and not f"{self.track.folder.name}-".startswith(f"{experiment.track}-"):
            raise NotJudged(f"only for track {experiment.track}; this is {self.track.folder.name}")
        program = self.program(experiment)
        if same_program(self.baseline_source, program.source):
            raise NotJudged("the program equals the baseline", unchanged=True)
        if experiment.is_overlay and (names := unmatched_names(self.baseline_source, experiment.source)):
            raise NotJudged(f"{self.relative(self.baseline.path)} has no {' and no '.join(names)}: nothing to replace")
        if self.options.rerun:
            return None
        known = self.ledger.verdicts(self.track.name, experiment.name)
        key = self.key(experiment, program)
        for verdict in reversed(known):
            if verdict.key == key:
                return replace(verdict, recorded=True)
        earlier = [
            verdict
            for verdict in known
            if verdict.experiment_sha == experiment.sha
            and verdict.baseline_sha != sha256(self.baseline_source)
            and verdict.platform == digest(self.fingerprint)
            and not verdict.provisional
        ]
        if earlier and not self.options.retest:
            last = earlier[-1]
            if last.status == "keep" or last.outcome is not Outcome.KEPT:
                word = "kept and promoted" if last.status == "keep" else str(last.outcome)
                why = f"{word} against an earlier baseline, {last.baseline_sha[:7]} (--ar-retest judges it anew)"
                raise NotJudged(why)
        return None

    def key(self, experiment: Experiment, program: Program) -> str:
        """All that a verdict is a function of."""
        track = self.track
        rule = [track.seeds, track.alpha, track.noise, track.simplify_margin, track.max_memory_growth]
        setting = [self.fingerprint, track.budget.limit, track.batch_size, track.memory, *rule]
        return digest([program.sha, experiment.simplifies, sha256(self.baseline_source), setting])

    def judge(self, experiment: Experiment, watchdog: "Watchdog", spectators: Spectators) -> Verdict:
        """Train the experiment's program seed by seed until the verdict is clear; saved beside its evidence."""
        program = self.program(experiment)
        folder = self.ledger.evidence(self.track.name, experiment.name, program.sha)
        with self.ledger.lock(folder):
            verdict = self.look_up(experiment)  # another session may have judged it while this one waited
            if verdict is None:
                verdict = self._judge(experiment, program, folder, watchdog, spectators)
                self.ledger.save(verdict)
        return verdict

    def _judge(
        self, experiment: Experiment, program: Program, folder: Path, watchdog: "Watchdog", spectators: Spectators
    ) -> Verdict:
        self.make_ready(watchdog, spectators)
        record = self.record
        try:
            ruling = self._judge_of(watchdog, spectators).judge(experiment, program, self.baseline_source, record)
        except UsageError as error:
            raise UsageError(self.shorten(error)) from None
        results, decision = ruling.results, ruling.decision
        added, removed = line_counts(self.baseline_source, program.source)
        memory = max((result.memory_gb for result in results), default=0.0)
        return Verdict(
            experiment=experiment.name,
            description=experiment.description,
            track=self.track.name,
            outcome=ruling.outcome,
            reason=ruling.reason,
            detail=results[-1].detail if results else "",
            scores=[result.val_bpb for result in results if result.val_bpb is not None],
            delta=decision.delta,
            p_value=decision.p_value,
            runs=len(results),
            seconds=sum(result.seconds for result in results),
            cpu_seconds=sum(result.cpu_seconds for result in results),
            free_seconds=sum(result.free_seconds for result in results),
            first_answer=max((result.first_answer for result in results), default=0.0),
            isolation=results[-1].isolation if results else "",
            memory_gb=memory,
            memory_growth=memory / record.memory_gb - 1 if memory and record.memory_gb else None,
            lines_added=added,
            lines_removed=removed,
            experiment_sha=experiment.sha,
            program_sha=program.sha,
            baseline_sha=record.program_sha,
            key=self.key(experiment, program),
            platform=digest(self.fingerprint),
            evidence=self.relative(folder),
            finished_at=now(),
            curve=mean_curve([result.curve for result in results]),
            baseline_scores=record.scores,
            simplifies=experiment.simplifies,
            provisional=bool(self.provisional),
        )

    def _judge_of(self, watchdog: "Watchdog", spectators: Spectators) -> Judge:
        executor, isolation = self.executor, self.options.sandbox
        return Judge(self.track, self.data, executor, isolation, self.ledger, watchdog, spectators)

    def broken(self, path: Path, error: UsageError) -> Verdict:
        """The verdict on a file that is no experiment: crashed, with the reason."""
        name = path.relative_to(self.project.experiments).with_suffix("").as_posix()
        try:
            content = path.read_bytes().decode(errors="replace")
        except OSError:
            content = ""
        sha = sha256(content)
        folder = self.ledger.evidence(self.track.name, name, sha)
        reason = self.shorten(error)
        key = digest([sha, reason])
        with self.ledger.lock(folder):
            for verdict in self.ledger.verdicts(self.track.name, name):
                if verdict.key == key and not self.options.rerun:
                    return replace(verdict, recorded=True)
            verdict = Verdict(
                experiment=name,
                description=name,
                track=self.track.name,
                outcome=Outcome.CRASHED,
                reason=reason,
                experiment_sha=sha,
                program_sha=sha,
                baseline_sha=sha256(self.baseline_source),
                key=key,
                platform="",
                evidence=self.relative(folder),
                finished_at=now(),
            )
            self.ledger.save(verdict)
        return verdict

    # -- the end --

    def take(self, verdict: Verdict) -> None:
        """Note a verdict and log what can be logged: what was kept only gets its status at the session's end."""
        self.verdicts.append(verdict)
        with self._noting_problems():
            if not self._log_baseline():
                return
            for number, waiting in enumerate(self.verdicts):
                if not waiting.status and waiting.outcome is not Outcome.KEPT:
                    self.verdicts[number] = self.ledger.log(waiting)

    def _log_baseline(self) -> bool:
        """The first line of a track is its baseline. False while there is none: the rest waits for it."""
        if self.baseline_before is None:
            record: Record = vars(self).get("record") or self.stored_record()  # another session may have promoted
            if not record.scores:
                return False
            self.baseline_before = record
        self.ledger.log_baseline(self.track, self.baseline_before)
        return True

    def finish(self, promote: bool) -> None:
        """Log what was kept but outrun as passed, then promote the best; a kill in between loses neither."""
        self.finished = True
        best = None
        with self._noting_problems():
            kept = [verdict for verdict in self.verdicts if verdict.outcome is Outcome.KEPT]
            if kept and (self.provisional or not self.options.promote or not promote):
                why = self.provisional or ("--ar-no-promote" if promote else "interrupted")
                self.notes.append(f"nothing promoted: {why}")
            else:
                best = min(
                    (v for v in kept if not v.provisional), key=lambda v: (v.simplifies, fmean(v.scores)), default=None
                )
        for number, verdict in enumerate(self.verdicts):
            if verdict.outcome is Outcome.KEPT and not verdict.status and verdict is not best:
                with self._noting_problems():
                    self.verdicts[number] = self.ledger.log(verdict)
        if best:
            with self._noting_problems():  # a problem here leaves it without a line, for the next session to promote
                self.promotion = self._promote(best)
                status = "keep" if self.promotion else best.status
                self.verdicts[self.verdicts.index(best)] = self.ledger.log(replace(best, status=status))
        with self._noting_problems():
            self._log_lost()

    def _promote(self, verdict: Verdict) -> Promotion | None:
        path = self.project.root / verdict.evidence / "seed-0" / "program.py"
        source = path.read_text(encoding="utf-8", errors="replace")
        if sha256(source) != verdict.program_sha:
            raise UsageError(f"{path}: not the program that was judged; nothing promoted")
        record = Record(
            program_sha=verdict.program_sha,
            fingerprint=self.fingerprint,
            scores=verdict.scores,
            curve=verdict.curve,
            memory_gb=verdict.memory_gb,
            seconds=verdict.seconds / verdict.runs,
            cpu_seconds=verdict.cpu_seconds / verdict.runs,
            free_seconds=verdict.free_seconds / verdict.runs,
            first_answer=verdict.first_answer,
            isolation=verdict.isolation,
            recorded_at=verdict.finished_at,
        )
        if self.baseline.promote(source, record, verdict):
            return Promotion(verdict, fmean(verdict.baseline_scores), record.val_bpb, self.baseline.path)
        if sha256(self.baseline.source()) == verdict.program_sha:
            self.notes.append(f"another session has promoted {verdict.experiment}")
        else:
            self.notes.append(
                f"nothing promoted: {verdict.experiment} was kept against an earlier baseline, for "
                f"{self.relative(self.baseline.path)} has changed meanwhile; the next session tries it again by itself"
            )
        return None

    def _log_lost(self) -> None:
        """Log the verdicts of killed sessions that none will replay, since the baseline has moved."""
        moved = sha256(self.baseline.source())
        lost = [verdict for verdict in self.ledger.unlogged(self.track.name) if verdict.baseline_sha != moved]
        if lost and self._log_baseline():
            for verdict in lost:
                self.ledger.log(verdict)

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        """A ledger or a baseline that cannot be written costs a line in the summary, not the session."""
        try:
            yield
        except UsageError as error:
            line = self.shorten(error)
        except OSError as error:
            line = self.shorten(UsageError(f"{error.filename or self.ledger.path}: {error.strerror or error}"))
        else:
            return
        if line not in self.notes:
            self.notes.append(line)


def _mean(*parts: list[float]) -> float:
    return fmean([number for part in parts for number in part])
