"""The plan of an experiment: its program, its key, and the verdict to replay, if there is one."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_autoresearch.core.errors import NoExperiment, NotJudged, UsageError
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.core.text import counted, name_of, read_source
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.programs.compare import same_program
from pytest_autoresearch.programs.experiment import SOURCE_BYTES, Experiment, Program, parse_errors, read_experiment
from pytest_autoresearch.programs.history import lost_lines

COMPILES = re.compile(r"\btorch\.compile\b")


@dataclass(frozen=True)
class Plan:
    """What to do with one experiment; computed once and passed on.

    `key` is a digest of everything that determines the verdict. `replayed` is the verdict with that key, if there is
    one. `note` is what the author of the experiment should know.
    """

    experiment: Experiment
    program: Program
    key: str
    replayed: Verdict | None
    note: str


def read(context: Context, path: Path) -> tuple[Experiment, Program]:
    """The experiment of a file and the program that it runs.

    NotJudged if it is for another track, or the program equals the baseline. UsageError if the file is no experiment.
    """
    experiment = read_experiment(path, context.project.experiments)
    check_track(context, experiment)
    try:
        program = experiment.program(context.baseline_program.source, context.baseline.path)
    except UsageError:
        if not context.lacks_corpus:
            check_earlier(context, experiment)  # it was an experiment on a baseline that had those names
        raise
    check_changes(context, program)
    return experiment, program


def read_file(context: Context, path: Path) -> tuple[Experiment, Program]:
    """As `read`, but NoExperiment, with paths relative to the project, if the file is no experiment."""
    try:
        with parse_errors(path):
            return read(context, path)
    except UsageError as error:
        raise NoExperiment(context.shorten(error), error.detail) from None


def broken_key(context: Context, path: Path, error: NoExperiment) -> tuple[str, Program, str]:
    """The name and the text of a file that is no experiment, and the key of the verdict that says so."""
    name = name_of(path, context.project.experiments)
    try:
        file = Program(read_source(path, SOURCE_BYTES))
    except UsageError:
        file = Program("")
    return name, file, digest([name, file.sha, str(error)])


def check_track(context: Context, experiment: Experiment) -> None:
    """NotJudged if the experiment is for another track."""
    if experiment.track and not context.track.is_meant_by(experiment.track):
        raise NotJudged(f"only for track {experiment.track}; this is {context.track.folder.name}")


def check_changes(context: Context, program: Program) -> None:
    """NotJudged if the program equals the baseline."""
    if same_program(context.baseline_program.source, program.source):
        raise NotJudged("the program equals the baseline", unchanged=True)


def make_plan(context: Context, experiment: Experiment, program: Program, record: Record) -> Plan:
    """The plan, given a complete record. NotJudged if the experiment was judged against an earlier baseline only."""
    key = verdict_key(context, experiment, program, record)
    note = note_on(context, experiment, program)
    replayed = None if context.options.rerun else replay(context, experiment, key, note)
    if not replayed:
        check_earlier(context, experiment)
    return Plan(experiment, program, key, replayed, note)


def verdict_key(context: Context, experiment: Experiment, program: Program, record: Record) -> str:
    """A digest of everything that determines a verdict: program, track, data, budget, platform, isolation, record."""
    track = context.track
    rule = [track.seeds, track.alpha, track.noise, track.simplify_margin, track.max_memory_growth, track.token_factor]
    setting = [context.fingerprint, track.budget.limit, track.batch_size, track.memory, *rule]
    judged_by: list[object] = [context.baseline_program.code_sha, record.scores, context.isolation.kind]
    judged_by += [context.baseline.lost(record)] if experiment.simplifies else []
    return digest([program.code_sha, experiment.simplifies, setting, judged_by])


def replay(context: Context, experiment: Experiment, key: str, note: str = "") -> Verdict | None:
    """The stored verdict with this key, marked as replayed for this experiment."""
    found = (verdict for verdict in context.evidence.find(context.track.name, key) if _is_of_use(context, verdict))
    verdict = next(found, None)
    if verdict is None:
        return None
    same_as = "" if verdict.experiment == experiment.name else verdict.experiment
    provisional = bool(context.provisional)  # a quick look may have become what the track asks for
    return replace(verdict, replayed=True, same_as=same_as, provisional=provisional, note=note)


def _is_of_use(context: Context, verdict: Verdict) -> bool:
    """Whether a session may replay a verdict. What was kept is to be promoted: that takes the program that was judged,
    on the baseline's very text, for comments that were changed since must not be lost."""
    if verdict.outcome is not Outcome.KEPT or context.provisional or not context.options.promote:
        return True
    return verdict.baseline_sha == context.baseline_program.sha and context.evidence.program(verdict) is not None


def check_earlier(context: Context, experiment: Experiment) -> None:
    """NotJudged if this very file was judged against an earlier baseline, unless it was kept but not promoted."""
    if context.options.retest or context.options.rerun:
        return
    earlier = [
        verdict
        for verdict in context.evidence.verdicts(context.track.name, experiment.name)
        if verdict.experiment_sha == experiment.sha
        and verdict.baseline_sha != context.baseline_program.sha
        and verdict.platform == context.platform
        and not verdict.provisional
    ]
    if earlier and (earlier[-1].status == "keep" or earlier[-1].outcome is not Outcome.KEPT):
        word = "kept and promoted" if earlier[-1].status == "keep" else str(earlier[-1].outcome)
        sha = earlier[-1].baseline_sha[:7]
        raise NotJudged(f"{word} against an earlier baseline, {sha} (--ar-retest judges it anew)")


def note_on(context: Context, experiment: Experiment, program: Program) -> str:
    """What the author should know: the experiment removes a promoted gain, or `torch.compile` has no effect."""
    notes = taken_back(context, experiment)
    if context.track.budget.unit == "flop" and COMPILES.search(program.source):
        notes.append("torch.compile does nothing under a budget in flop, which cannot count compiled code")
    return "; ".join(notes)


def taken_back(context: Context, experiment: Experiment) -> list[str]:
    """Notes on definitions that an overlay replaces without the lines that earlier promotions added to them."""
    if not experiment.is_overlay:
        return []
    notes = []
    for promoted, changed in context.promoted_lines:
        for name, lines in lost_lines(experiment.source, changed).items():
            count = counted(len(lines), "line")
            notes.append(f"replaces `{name}` without {count} that the promotion of {promoted} put there")
    return notes
