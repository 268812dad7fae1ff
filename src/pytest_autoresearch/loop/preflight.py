"""Preflight: why an experiment is not worth a run, as far as its source tells, before anything trains."""

import os
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path

from pytest_autoresearch.core.errors import NotJudged, UsageError
from pytest_autoresearch.core.text import is_experiment_file, one_line
from pytest_autoresearch.judging import plan as planning
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.judge import check_source
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.loop.standing import complete_record
from pytest_autoresearch.programs.experiment import Experiment, Program, parse_errors
from pytest_autoresearch.programs.search_space import is_sweep_file
from pytest_autoresearch.programs.statements import parse
from pytest_autoresearch.research.history import History

RETEST = " (--ar-retest judges it anew)"
"""The end of a reason that is of no use to an agent, for it does not run pytest."""


def check(context: Context, path: Path, root: Path, waiting: Iterable[Path] = ()) -> str:
    """Check an experiment before it trains. Returns the reason to refuse it, for its author; "" if it is worth a run.

    `root` is the folder of experiments that `path` lies in. An experiment is refused if it cannot be read or parsed,
    splices to nothing, is for another track, is a sweep, or breaks a rule that can be read off its source; also if its
    program equals one that was judged, or one of those `waiting`. UsageError if track, baseline or ledger cannot be
    read.
    """
    experiments = context.project.experiments
    context = _at(root, context.fresh())
    with parse_errors(context.baseline.path):
        parse(context.baseline_program.source)  # it is not the author's fault if this fails
    history = History.read(context.ledger, context.track.name)
    try:
        reason = _reason(context, history, path, waiting)
    except (NotJudged, UsageError) as error:
        reason = str(error).removesuffix(RETEST)
    return _for_author(context, path, root, experiments, reason) if reason else ""


def _reason(context: Context, history: History, path: Path, waiting: Iterable[Path]) -> str:
    if not is_experiment_file(path):
        return "not taken for an experiment; its name must end in .py and not begin with _"
    if is_sweep_file(path):
        return "has a SEARCH_SPACE, and the loop judges no sweeps; set the values that you would try first"
    with parse_errors(path):
        experiment, program = planning.read(context, path)
    if failed := check_source(context, experiment, program):
        return f"would be {failed[0]}: {failed[1]}"
    if judged := _judged(context, history, experiment, program):
        return judged
    equal = (other for other in waiting if other != path and _runs(context, other, experiment, program))
    other = next(equal, None)
    return f"the same program as {other}, which waits for its verdict" if other else ""


def _judged(context: Context, history: History, experiment: Experiment, program: Program) -> str:
    """The verdict that a program has already, on this baseline or on an earlier one; "" if it has none."""
    if record := complete_record(context):
        if verdict := planning.make_plan(context, experiment, program, record).replayed:
            words = verdict_line(replace(verdict, replayed=False, same_as="", note=""))
            return f"the same program as {verdict.experiment}: {words}"
    elif not context.lacks_corpus:
        planning.check_earlier(context, experiment)
    for entry in reversed(history.entries):
        if entry.program_sha == program.sha and not entry.is_trial:
            delta = "" if entry.delta is None else f" {entry.delta:+.4f}"
            return f"the same program as {entry.experiment}, judged before: {entry.outcome}{delta}"
    return ""


def _runs(context: Context, other: Path, experiment: Experiment, program: Program) -> bool:
    """Whether another file runs this program, to the same end."""
    try:
        with parse_errors(other):
            theirs, its_program = planning.read(_at(other.parent, context), other)
    except (NotJudged, UsageError):
        return False
    return theirs.simplifies == experiment.simplifies and its_program.code_sha == program.code_sha


def _at(root: Path, context: Context) -> Context:
    """The context with `root` for the folder of experiments."""
    other = copy(context)
    other.project = replace(context.project, experiments=root)
    return other


def _for_author(context: Context, path: Path, root: Path, experiments: Path, reason: str) -> str:
    """The reason in one line that begins with the file. All paths are as in the scratch folder, which holds `root`."""
    scratch, baseline = root.parent, context.project.baseline
    for folder, name in (
        (f"{context.relative(scratch)}/", ""),
        (f"{scratch}{os.sep}", ""),
        (f"{experiments}{os.sep}", "experiments/"),
        (f"{baseline}{os.sep}", "baseline/"),
        (f"{context.project.root}{os.sep}", ""),
    ):
        reason = reason.replace(folder, name)
    file = path.relative_to(scratch).as_posix()
    return one_line(reason if reason.startswith(file) else f"{file}: {reason}")
