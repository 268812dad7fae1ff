"""Recording the baseline: train it with every seed, once on each platform, before judging anything by it."""

import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Record, RunStats
from pytest_autoresearch.core.track import budget_of
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.judge import FIXED_SEED, Judge
from pytest_autoresearch.programs.experiment import Program
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.seeds import find_fixed_seed
from pytest_autoresearch.programs.statements import unix
from pytest_autoresearch.referee.executor import RunResult


def stored_record(context: Context) -> Record:
    """The baseline's record on this platform, from disk. It may lack some seeds, or all of them."""
    record = context.baseline.record(context.fingerprint, context.baseline_program)
    return replace(record, stats=record.stats.first(context.track.seeds))


def check_changed_by_hand(context: Context) -> None:
    """UsageError if `train.py` has records, but none of its current program: it was changed by hand.

    Otherwise an idea that was edited into the training script would become the baseline without being judged.
    """
    record = context.baseline.unknown_since(context.baseline_program, budget_of(context.track))
    if record is None or context.options.record:
        return
    what = "another program"
    old, new = context.evidence.source(record.program_sha), context.baseline_program.source
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):  # evidence may be of any age
        names = changed_names(old, new) if old else []
        what = f"changed in {', '.join(f'`{name}`' for name in names[:5])}{', …' * (len(names) > 5)}" if names else what
    command = context.options.on_track("autoresearch new NAME --from-edit")
    raise UsageError(
        f"{context.baseline.path}: {what} since its record of {record.recorded_at} ({record.val_bpb:.4f} val_bpb): "
        f"`{command}` makes the change an experiment and puts the file back; "
        "--ar-record accepts it unjudged"
    )


def program_before_edit(context: Context, edited: Program) -> Program:
    """The recorded program that `train.py` held before it was edited by hand, from git or from the evidence.

    UsageError if nothing was edited that counts, or if the program is in neither.
    """
    path = context.baseline.path
    if known := context.baseline.records_of(edited):
        same = any(record.program_sha == edited.sha for record in known)
        what = (
            "is the recorded program: nothing was edited" if same else "only comments or layout differ from the record"
        )
        raise UsageError(f"{path}: {what}; nothing to judge")
    record = context.baseline.unknown_since(edited, budget_of(context.track))
    if record is None:
        raise UsageError(
            f"{path}: has no record, so nothing says what it was; put it back, record it with `pytest experiments`, "
            "and then edit it"
        )
    committed = Program(unix(_committed(path)))
    if context.baseline.records_of(committed):  # as it was, with comments that were committed after the recording
        return committed
    source = context.evidence.source(record.program_sha)
    if source is None:
        folder = context.relative(context.evidence.folder)
        raise UsageError(
            f"{path}: neither git's last commit nor {folder} has the program of its record of {record.recorded_at}; "
            "put it back by hand"
        )
    return Program(source)


def _committed(path: Path) -> str:
    """The text of a file in git's last commit; "" if there is none."""
    with suppress(OSError, UnicodeDecodeError):
        command = ["git", "show", f"HEAD:./{path.name}"]
        done = subprocess.run(command, cwd=path.parent, capture_output=True)
        return done.stdout.decode() if done.returncode == 0 else ""
    return ""


def record_baseline(context: Context, judge: Judge, since: str) -> Record:
    """Train the baseline with every seed that its record lacks. UsageError if it cannot be recorded.

    `--ar-record` records all seeds anew, unless another process has done so after the time `since`.
    """
    program, path = context.baseline_program, context.baseline.path
    with context.baseline.lock():  # a second session waits here, and then finds the record
        if context.baseline.source() != program.source:
            raise UsageError(f"{path}: another session has changed it meanwhile; start again")
        if found := find_fixed_seed(program.source):
            raise UsageError(f"{path}:{found[0]}: `{found[1]}`: {FIXED_SEED}")
        record = context.baseline.record(context.fingerprint, program)
        by_hand = context.baseline.is_by_hand(program)
        if context.options.record and record.recorded_at <= since:
            record = Record(program.sha, program.code_sha, context.fingerprint)
        lacking = range(len(record.scores), context.track.seeds)
        for seed in lacking:
            stats = record.stats + RunStats.of([_trained(context, judge, seed)])
            record = replace(record, stats=stats, recorded_at=now(), by_hand=by_hand)
            # After each run, so that a kill costs one.
            context.baseline.write_record(record, keeps_others=bool(context.provisional))
    if lacking:
        judge.monitor.recorded(record)
    return record


def _trained(context: Context, judge: Judge, seed: int) -> RunResult:
    result = judge.run("baseline", context.baseline_program, seed)
    if result.interrupted:
        result = judge.run("baseline", context.baseline_program, seed, again=True)
    if result.val_bpb is None:
        folder = context.evidence.of(context.track.name, "baseline", context.baseline_program.sha)
        raise UsageError(
            f"{context.baseline.path}: the baseline itself {result.failure} on seed {seed}: "
            f"{result.reason} (see {context.relative(folder)})"
        )
    return result
