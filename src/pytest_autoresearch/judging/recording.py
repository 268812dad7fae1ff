"""Recording the baseline: train it with every seed, once on each platform, before judging anything by it."""

from contextlib import suppress
from dataclasses import replace

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Record, RunStats
from pytest_autoresearch.core.track import fingerprint
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.judge import FIXED_SEED, Judge
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.seeds import find_fixed_seed
from pytest_autoresearch.referee.executor import RunResult


def stored_record(context: Context) -> Record:
    """The baseline's record on this platform, from disk. It may lack some seeds, or all of them."""
    record = context.baseline.record(context.fingerprint, context.baseline_program)
    return replace(record, stats=record.stats.first(context.track.seeds))


def check_changed_by_hand(context: Context) -> None:
    """UsageError if `train.py` has records, but none of its current program: it was changed by hand.

    Otherwise an idea that was edited into the training script would become the baseline without being judged.
    """
    record = context.baseline.unknown_since(context.baseline_program, fingerprint(context.track, "")["budget"])
    if record is None or context.options.record:
        return
    what = "another program"
    old, new = context.evidence.source(record.program_sha), context.baseline_program.source
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):  # evidence may be of any age
        names = changed_names(old, new) if old else []
        what = f"changed in {', '.join(f'`{name}`' for name in names[:5])}{', …' * (len(names) > 5)}" if names else what
    raise UsageError(
        f"{context.baseline.path}: {what} since its record of {record.recorded_at} ({record.val_bpb:.4f} val_bpb): "
        "make the change an experiment and put the file back, or accept it unjudged with --ar-record"
    )


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
