"""One session, to which the hooks delegate. It plans each experiment, judges it, logs and promotes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pytest_autoresearch.core.errors import LeftUnjudged, NoExperiment, UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.core.track import fingerprint, require_device
from pytest_autoresearch.judging import plan as planning
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.judge import Judge, verdict_on
from pytest_autoresearch.judging.monitor import RunMonitor
from pytest_autoresearch.judging.plan import Plan
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.judging.recording import check_changed_by_hand, record_baseline, stored_record
from pytest_autoresearch.judging.session_log import SessionLog
from pytest_autoresearch.judging.stopping import Stopping
from pytest_autoresearch.judging.summary import SessionHeader
from pytest_autoresearch.programs.experiment import Program, description_of, parse_errors
from pytest_autoresearch.programs.statements import parse
from pytest_autoresearch.referee.executor import Executor


class Session:
    """Judges experiments of one project on one track, logs the verdicts and promotes the best."""

    def __init__(
        self,
        project: Project,
        options: Options,
        executor: Executor,
        monitor: RunMonitor,
        began: float | None = None,
        shared: str = "",
    ) -> None:
        """`began`, `shared`: when the session began (s) and its name, where several processes do its work."""
        self.context = Context(project, options, executor)
        self.stopping = Stopping(options.stop, self.context.evidence, began, shared)
        self.monitor = monitor
        self.log = SessionLog(self.context)
        self._judge = Judge(self.context, self.monitor)
        self._record: Record | None = (
            None  # the one that this session judges by, even if another session promotes meanwhile
        )
        self._problem: str | None = None  # why nothing can be judged, if that is known
        self._began = now()

    # -- before anything runs --

    def check(self, writes: bool = True) -> None:
        """As `check_context`, for the context of this session."""
        check_context(self.context, writes)

    def header(self) -> SessionHeader:
        """The setting in which this session judges."""
        context = self.context
        known = fingerprint(context.track, "")
        return SessionHeader(
            track=context.track,
            device=known["device"].partition(": ")[2],
            threads=known["threads"],
            isolation=context.isolation.words,
            program=context.relative(context.baseline.path),
            record=None if context.lacks_corpus else stored_record(context),
            records_anew=context.options.record,
            provisional=context.provisional,
            promotes=context.options.promote,
        )

    # -- planning --

    def plan(self, path: Path) -> Plan:
        """The plan for one file. Records the baseline first, if that is needed.

        NotJudged if the experiment is not judged now, LeftUnjudged if the session has stopped, NoExperiment if the file
        is no experiment, UsageError if nothing can be judged.
        """
        if self._problem:
            raise UsageError(self._problem)
        context = self.context
        if context.options.record:  # asked for in so many words, whatever becomes of the experiments
            self.make_ready()
        experiment, program = planning.read_file(context, path)
        self.fetch_corpus()
        record = self._record or stored_record(context)
        if len(record.scores) < context.track.seeds:
            planning.check_earlier(context, experiment)
            self.check_stopped()
            record = self.make_ready()
        plan = planning.make_plan(context, experiment, program, record)
        if not plan.replayed:  # which costs nothing
            self.check_stopped(record)
        return plan

    def check_stopped(self, record: Record | None = None) -> None:
        """LeftUnjudged if no other experiment may begin in this session, given the baseline's complete record."""
        if stopped := self.stopping.reason(record.val_bpb if record else None):
            raise LeftUnjudged(stopped)

    def fetch_corpus(self) -> None:
        """Fetch the track's text from the hub, if it must come from there. UsageError if that fails."""
        if self.context.lacks_corpus:
            self.check_stopped()
            with self._remembering_problems(), self.monitor.preparing() as progress:
                self.context.fetch_corpus(progress)

    def make_ready(self) -> Record:
        """Prepare the data and record the baseline, unless that is done. UsageError if it cannot be done."""
        if self._problem:
            raise UsageError(self._problem)
        if self._record:
            return self._record
        with self._remembering_problems():
            with self.monitor.preparing() as progress:
                self.context.prepare(progress)
            record = stored_record(self.context)
            if self.context.options.record or len(record.scores) < self.context.track.seeds:
                record = record_baseline(self.context, self._judge, self._began)
            self._record = record
        return record

    # -- judging --

    def judge(self, plan: Plan) -> Verdict:
        """The verdict on a planned experiment: replayed, or trained seed by seed, and saved beside its evidence."""
        verdict = plan.replayed or self._judge_now(plan)
        self.stopping.add(verdict)
        return verdict

    def _judge_now(self, plan: Plan) -> Verdict:
        record = self.make_ready()
        lock, folder = self.context.evidence.lock, self._folder(plan.experiment.name, plan.program)
        with lock(plan.key), lock(self.context.relative(folder)):  # with more seeds: another key, same folder
            again = (
                None
                if self.context.options.rerun
                else planning.replay(self.context, plan.experiment, plan.key, plan.note)
            )
            if again:
                return again  # another session has judged it while this one waited
            try:
                judgement = self._judge.judge(plan.experiment, plan.program, record)
            except UsageError as error:
                raise UsageError(self.context.shorten(error)) from None
            verdict = verdict_on(self.context, plan, judgement, record)
            self.context.evidence.save(verdict)
        return verdict

    def broken(self, path: Path, error: NoExperiment) -> Verdict:
        """The verdict on a file that is no experiment: crashed, with the reason."""
        verdict = self._broken(path, error)
        self.stopping.add(verdict)
        return verdict

    def _broken(self, path: Path, error: NoExperiment) -> Verdict:
        context = self.context
        name, file, key = planning.broken_key(context, path, error)
        folder = self._folder(name, file)
        with context.evidence.lock(key):
            known = context.evidence.find(context.track.name, key)
            if known and not context.options.rerun:
                return replace(known[0], replayed=True)
            verdict = Verdict(
                experiment=name,
                description=description_of(file.source) or name,
                track=context.track.name,
                outcome=Outcome.CRASHED,
                reason=str(error),
                detail=error.detail,
                experiment_sha=file.sha,
                program_sha=file.sha,
                baseline_sha=context.baseline_program.sha,
                key=key,
                platform="",
                evidence=context.relative(folder),
                finished_at=now("microseconds"),
                provisional=bool(context.provisional),
            )
            context.evidence.save(verdict)
        return verdict

    def _folder(self, name: str, program: Program) -> Path:
        return self.context.evidence.of(self.context.track.name, name, program.sha)

    @contextmanager
    def _remembering_problems(self) -> Iterator[None]:
        """Remember an error in the block: it is reported for every experiment, and the block is not tried again."""
        try:
            yield
        except (UsageError, OSError) as error:
            self._problem = self.context.shorten(error)
            raise UsageError(self._problem) from None


def check_context(context: Context, writes: bool = True) -> None:
    """Check track, options, baseline, records, device, sandbox and folders. UsageError if nothing can be judged.

    `writes`: something is going to train, so `results/` must be writable.
    """
    try:
        require_device(context.track)
        with parse_errors(context.baseline.path):
            parse(context.baseline_program.source)
        context.isolation  # noqa: B018  raises if the sandbox is unavailable
        check_changed_by_hand(context)
        if not context.lacks_corpus:
            stored_record(context)
        if writes:
            folder = context.evidence.folder
            if not os.access(folder if folder.exists() else context.project.root, os.W_OK):
                raise UsageError(f"{folder}: cannot be written, and every run leaves its evidence there")
    except (UsageError, OSError) as error:
        raise UsageError(context.shorten(error)) from None
