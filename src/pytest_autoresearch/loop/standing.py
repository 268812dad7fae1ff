"""Where an experiment stands: whether a session would do something for its file now, and which verdict it has."""

from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.errors import NoExperiment, NotJudged
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.judging import plan as planning
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.recording import stored_record
from pytest_autoresearch.programs.experiment import Experiment
from pytest_autoresearch.programs.search_space import is_sweep_file

NEW, OUTRUN, TO_PROMOTE = "new", "kept and outrun", "kept, to be promoted"


@dataclass(frozen=True)
class Standing:
    """`why` an experiment waits, "" if it does not. `verdict` is the one that a session would replay, if any."""

    why: str = ""
    verdict: Verdict | None = None


def standing_of(context: Context, path: Path) -> Standing:
    """Where the experiment of a file stands. Sweeps do not wait. UsageError if track or baseline cannot be read."""
    if is_sweep_file(path):
        return Standing()
    record = complete_record(context)
    try:
        try:
            experiment, program = planning.read_file(context, path)
        except NoExperiment as error:
            return _broken(context, path, error, record)
        if record is None:
            if not context.lacks_corpus:
                planning.check_earlier(context, experiment)
            return Standing(_why_judged(context, experiment))
        plan = planning.make_plan(context, experiment, program, record)
    except NotJudged:
        return Standing()
    if (verdict := plan.replayed) is None:
        return Standing(_why_judged(context, experiment))
    if verdict.outcome is Outcome.KEPT and context.options.promote and not verdict.provisional:
        return Standing(TO_PROMOTE, verdict)
    return Standing(_why_replayed(verdict), verdict)


def complete_record(context: Context) -> Record | None:
    """The baseline's record, if it has a score for each seed."""
    record = None if context.lacks_corpus else stored_record(context)
    return record if record and len(record.scores) >= context.track.seeds else None


def _broken(context: Context, path: Path, error: NoExperiment, record: Record | None) -> Standing:
    """The standing of a file that is no experiment."""
    *_, key = planning.broken_key(context, path, error)
    known = context.evidence.find(context.track.name, key)
    if not known or context.options.rerun:
        return Standing(NEW)
    return Standing(_why_replayed(known[0]) if record else "", known[0])  # without a record nothing gets its line


def _why_replayed(verdict: Verdict) -> str:
    """A verdict without a line in the ledger is left from a kill: a session replays it and writes the line."""
    return "" if verdict.status else NEW


def _why_judged(context: Context, experiment: Experiment) -> str:
    verdicts = context.evidence.verdicts(context.track.name, experiment.name)
    kept = (each for each in verdicts if each.outcome is Outcome.KEPT and each.status != "keep")
    return OUTRUN if any(each.experiment_sha == experiment.sha for each in kept) else NEW
