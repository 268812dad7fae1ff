"""Sweeps: a file with SEARCH_SPACE is tried at many points; the best of them are judged like any experiment.

Each trial is one run on the search seed (`judging/trial.py`). The study says which point comes next, and remembers what
each has scored.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from pytest_autoresearch.core.errors import LeftUnjudged, NoExperiment, NotJudged, UsageError
from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.core.text import counted
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.judging.judge import Judge
from pytest_autoresearch.judging.plan import Plan, check_changes, check_track, make_plan
from pytest_autoresearch.judging.recording import stored_record
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.judging.trial import SEARCH_SEED, Trials
from pytest_autoresearch.programs.arithmetic import Value
from pytest_autoresearch.programs.experiment import Experiment, Program
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.study import Study, check_sampler, size_of_grid
from pytest_autoresearch.research.sweep_file import SweepFile

FAULTS = (Outcome.CRASHED, Outcome.DISQUALIFIED)
"""Outcomes that are a fault of the program. Any other trial without a score lies outside of what works."""
POLL = 0.2  # seconds between two looks at trials that other processes run


@dataclass(frozen=True)
class SweepOptions:
    """`--ar-trials` (None where it is not given: then no point is tried), `--ar-sampler` and `--ar-finalists`."""

    trials: int | None = None
    sampler: str = "tpe"
    finalists: int = 3


class Sweep:
    """One file with SEARCH_SPACE in one session: its trials, its finalists, and the study that they share."""

    def __init__(self, session: Session, path: Path, options: SweepOptions) -> None:
        self.path = path
        self.options = options
        self._session = session
        self._context = session.context
        self._file = SweepFile(self._context, path)

    # -- items --

    def names(self) -> tuple[list[str], list[str]]:
        """The names of the trials and of the finalists, without the file's. None of either if no point can be tried."""
        try:
            check_track(self._context, self._file.experiment)
            if count := self._count:
                self._file.constants  # noqa: B018  raises if the space does not fit the baseline
        except (UsageError, NotJudged):
            count = 0  # the one item says why
        ranks = range(1, self.options.finalists + 1) if count else ()
        return [self._name(number) for number in range(1, count + 1)], [f"[finalist-{rank}]" for rank in ranks]

    def plan_trial(self) -> None:
        """Make ready for trials. Records the baseline first, if that is needed.

        NotJudged if nothing is tried now, NoExperiment if the file is no sweep, UsageError if nothing can be tried.
        """
        self._make_ready()
        if self._earlier:
            raise _tried_earlier(self._earlier[0])

    def try_point(self, number: int) -> Verdict:
        """The verdict of trial `number`, replayed or trained. NotJudged if there is no such point."""
        try:
            with self._study.point(number) as point:
                if point is None:
                    raise NotJudged("no point is left that meets the constraints and has not been tried")
                experiment, program = self._at(self._name(number), point.values)
                experiment = replace(experiment, source=self._file.experiment.source)  # messages name its lines
                plan = self._trials.plan(experiment, program)
                if not plan.replayed:
                    self._session.check_stopped(self._session.make_ready())
                verdict = self._trials.run(plan)
                excess = self._trials.memory_excess(verdict)
                self._study.end(number, verdict.val_bpb, excess, failed=verdict.outcome in FAULTS)
        except UsageError as error:
            raise UsageError(self._context.shorten(error)) from None
        return verdict

    def plan_finalist(self, rank: int) -> Plan:
        """The plan of the `rank`-th best program, once all trials have ended. Runs those that nobody runs.

        NotJudged if so many trials did not beat the baseline; otherwise as `Session.plan`.
        """
        self._make_ready()
        name = f"[finalist-{rank}]"
        experiment, program = self._earlier_finalist(name) if self._earlier else self._ranked(name, rank)
        check_changes(self._context, program)
        record = self._session.make_ready()
        plan = make_plan(self._context, experiment, program, record)
        if not plan.replayed:
            self._session.check_stopped(record)
            self._session.monitor.say(f"{experiment.name}: {experiment.constants}")
        return plan

    def progress(self, looks: bool = True) -> str:
        """`sweep.py: 20 trials (tpe), 12 done; 3 finalists`; "" if nothing is tried. `looks` into the studies."""
        name, finalists = self.path.relative_to(self._context.project.experiments), self.options.finalists
        try:
            check_track(self._context, self._file.experiment)
            count = self._count
            skipped = not count or (looks and self._earlier)
            done = f", {len(self._done(self._study))} done" if looks and not skipped else ""
        except (UsageError, NotJudged):
            skipped = True
        if skipped:
            return ""  # its items say why
        trials = f"{counted(count, 'trial')} ({self.options.sampler}){done}"
        return f"{name.as_posix()}: {trials}; {counted(finalists, 'finalist')}"

    # -- its points --

    @property
    def _count(self) -> int:
        """How many trials there are, fewer on a small grid. UsageError if the sampler cannot search the space."""
        trials, sampler = self.options.trials or 0, self.options.sampler
        check_sampler(sampler, self._file.space)
        return min(trials, size_of_grid(self._file.space)) if sampler == "grid" else trials

    def _name(self, number: int) -> str:
        return f"[{number:0{max(2, len(str(self.options.trials)))}}]"

    def _at(self, name: str, values: dict[str, Value]) -> tuple[Experiment, Program]:
        """The experiment at one point of the space, called by the file and `name`, and its program."""
        return self._file.at(self._file.name + name, values)

    # -- before anything is tried --

    def _make_ready(self) -> None:
        context = self._context
        try:
            self._file.space  # noqa: B018  raises if the file is no sweep
            check_track(context, self._file.experiment)
        except UsageError as error:
            raise NoExperiment(context.shorten(error), error.detail) from None
        if self.options.trials is None:
            keys = counted(len(self._file.space.keys), "constant")
            raise NotJudged(f"a sweep of {keys}; --ar-trials N tries N points")
        try:
            self._count  # noqa: B018  raises if the sampler cannot search the space
        except UsageError as error:
            raise self._file.named_in(error) from None
        if context.track.seeds > SEARCH_SEED:
            raise UsageError(f"--ar-seeds {context.track.seeds}: a sweep trains on seed {SEARCH_SEED}; choose fewer")
        self._session.fetch_corpus()
        if len(stored_record(context).scores) < context.track.seeds:
            self._session.check_stopped()
        if not self._earlier:
            try:
                self._file.constants  # noqa: B018  raises if the space does not fit the baseline
            except UsageError as error:
                raise NoExperiment(context.shorten(error), error.detail) from None
            self._study  # noqa: B018  raises without optuna
        self._session.make_ready()

    @cached_property
    def _trials(self) -> Trials:
        return Trials(self._context, Judge(self._context, self._session.monitor), self._session.make_ready())

    # -- the study --

    @cached_property
    def _study(self) -> Study:
        """The study on today's baseline."""
        return self._study_on(self._context.baseline_program.sha)

    def _study_on(self, baseline_sha: str) -> Study:
        context, structure = self._context, Program(self._file.structure.source).code_sha
        name = digest([structure, baseline_sha, context.platform, context.isolation.kind, SEARCH_SEED])
        journal = context.evidence.journal(context.track.name, self._file.name)
        constants = self._file.constants if baseline_sha == context.baseline_program.sha else {}
        try:
            return Study(journal, name, self._file.space, constants, self.options.sampler, context.evidence.lock)
        except UsageError as error:
            raise self._file.named_in(error) from None

    def _done(self, study: Study) -> list[int]:
        """The numbers of the trials that this session asks for and that have ended, here or in an earlier session."""
        return [trial.number for trial in study.ended() if trial.number <= self._count]

    @cached_property
    def _earlier(self) -> tuple[str, Study] | None:
        """The latest earlier baseline against which all trials have ended, and the study of that time.

        None if the sweep has begun on today's baseline, or is to be tried anew.
        """
        context, today = self._context, self._context.baseline_program.sha
        if context.options.retest or context.options.rerun or context.provisional:
            return None
        history = History.read(context.ledger, context.track.name)
        mine = [entry for entry in history.entries if entry.file == self._file.name]
        earlier = dict.fromkeys(entry.baseline_sha for entry in reversed(mine) if entry.baseline_sha != today)
        if not earlier or self._done(self._study):
            return None
        studies = ((sha, self._study_on(sha)) for sha in earlier)
        return next(((sha, study) for sha, study in studies if len(self._done(study)) == self._count), None)

    # -- finalists --

    def _ranked(self, name: str, rank: int) -> tuple[Experiment, Program]:
        self._end_all()
        best = list(islice(self._better(name), rank))
        if len(best) < rank:
            which = f"only {counted(len(best), 'trial')}" if best else "no trial"
            raise NotJudged(f"{which} beat the baseline on the search seed")
        return best[-1]

    def _better(self, name: str) -> Iterator[tuple[Experiment, Program]]:
        """The programs that beat the baseline on the search seed, best first, each once.

        What takes too much memory has no score in the study.
        """
        scored = [(trial.score, trial.number, trial.values) for trial in self._study.ended() if trial.score is not None]
        if not scored:
            return  # no reason to train the baseline on the search seed
        bar = self._trials.search_record.scores[0]
        seen = {self._context.baseline_program.code_sha}
        for _, _, values in sorted((each for each in scored if each[0] < bar), key=lambda each: each[:2]):
            experiment, program = self._at(name, values)
            if program.code_sha in seen:
                continue
            seen.add(program.code_sha)
            yield experiment, program

    def _end_all(self) -> None:
        """Run the trials that nobody runs, and wait for those that other processes run.

        Under xdist a finalist may come before the last trials, in any order. It waits without holding a lock, so
        whichever process has a trial can end it.
        """
        left = set(range(1, self._count + 1))
        while left := left.difference(self._done(self._study)):
            free = next((number for number in sorted(left) if not self._study.is_taken(number)), None)
            if free is None:
                time.sleep(POLL)
                continue
            try:
                self.try_point(free)
            except LeftUnjudged:
                raise  # who is best is not known yet
            except NotJudged:
                left.discard(free)  # no point is left for it

    def _earlier_finalist(self, name: str) -> tuple[Experiment, Program]:
        """The experiment that was this finalist on the earlier baseline, on today's. NotJudged if there was none."""
        assert self._earlier
        sha, study = self._earlier
        verdicts = self._context.evidence.verdicts(self._context.track.name, self._file.name + name)
        for trial in study.ended():
            experiment, program = self._at(name, trial.values)
            if verdicts and experiment.sha == verdicts[-1].experiment_sha:
                return experiment, program
        raise _tried_earlier(sha)


def _tried_earlier(sha: str) -> NotJudged:
    return NotJudged(f"tried against an earlier baseline, {sha[:7]} (--ar-retest tries it anew)")
