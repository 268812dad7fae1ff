"""The brief: what a newcomer, human or agent, should know of a track before the next idea.

It is made from the ledger, the track's folder and the names of the files under `experiments/`. It imports no torch and
asks no device: the number to beat comes from any record of today's program, or from the ledger.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import name_of, one_line
from pytest_autoresearch.core.track import Track, budget_of
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options
from pytest_autoresearch.programs.constants import spelled_in
from pytest_autoresearch.programs.experiment import parse_errors
from pytest_autoresearch.programs.statements import pieces_of
from pytest_autoresearch.research.families import Failure, Family, failures, families
from pytest_autoresearch.research.gain import Gain, least_gain
from pytest_autoresearch.research.history import Entry, History
from pytest_autoresearch.research.importance import Importance, importances
from pytest_autoresearch.research.near_misses import NearMiss, near_misses
from pytest_autoresearch.research.plateau import Advice, Plateau, Untried, advice, due, escalate, plateau_of

FILES = 100
"""At most so many files without a verdict are opened, to see whether they are for another track."""

GOAL = "Find a program with a lower val_bpb (bits per byte of held-out text) than the baseline under the same budget."

_TRACK = re.compile(r"""^TRACK\b[^=\n]*=\s*["']([^"'\n]+)""", re.MULTILINE)


@dataclass(frozen=True)
class ToBeat:
    """The baseline's mean val_bpb, and that of each seed.

    `source` is "record", "ledger", or "" without a score. `note` says what is missing and how to get it, or "".
    """

    val_bpb: float | None
    scores: list[float]
    source: str
    platform: str
    note: str


@dataclass(frozen=True)
class Brief:
    """The facts."""

    track: Track
    to_beat: ToBeat
    history: History
    families: Sequence[Family]
    failures: Sequence[Failure]
    near_misses: Sequence[NearMiss]
    constants: Sequence[Importance]
    untried: Untried
    plateau: Plateau
    advice: Sequence[Advice]
    options: Options
    """They name the track for which commands are, where pytest would choose another."""

    @cached_property
    def gain(self) -> Gain | None:
        """What counts as a gain; None if the track gives no noise and there are no scores to take it from."""
        scores, seeds = self.to_beat.scores, self.track.seeds
        if len(scores) == seeds:
            return least_gain(scores, self.track)
        return least_gain([0.0] * seeds, self.track) if self.track.noise or seeds == 1 else None

    @cached_property
    def due(self) -> list[Advice]:
        """The advice to follow now."""
        return due(self.plateau, self.advice)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many verdicts of which kind."""
        outcomes = [entry.outcome for entry in self.history.verdicts]
        kept, discarded = outcomes.count(Outcome.KEPT), outcomes.count(Outcome.DISCARDED)
        return {
            "verdicts": len(outcomes),
            "kept": kept,
            "promoted": sum(entry.is_baseline for entry in self.history.verdicts),
            "discarded": discarded,
            "failed": len(outcomes) - kept - discarded,
            "trials": len(self.history.trials),
        }

    @cached_property
    def baselines(self) -> list[tuple[Entry, bool]]:
        """The programs to beat, the latest first, each with whether it was recorded without a promotion."""
        promoted = {id(entry) for entry in self.history.verdicts if entry.is_baseline}
        return [(entry, id(entry) not in promoted) for entry in reversed(self.history.baselines)]


# -- the facts --


def make_brief(context: Context) -> Brief:
    """Gather the facts. UsageError if track, baseline or ledger cannot be read."""
    track = context.base_track
    history = History.read(context.ledger, track.name)
    with parse_errors(context.baseline.path):
        defined = _defined(context.baseline_program.source)
    definitions = {name for name, is_constant in defined.items() if not is_constant}
    by_family = families(history.verdicts, definitions)
    near, constants = near_misses(history), importances(history.trials)
    root = context.project.experiments
    untried = _untried(history, defined, _without_verdict(history, root, track))
    advised = advice(
        history, near, by_family, definitions, constants, untried, lambda name: (root / f"{name}.py").is_file()
    )
    plateau, advised = escalate(plateau_of(history), advised)
    return Brief(
        track=track,
        to_beat=_to_beat(context, history),
        history=history,
        families=by_family,
        failures=failures(history.verdicts),
        near_misses=near,
        constants=constants,
        untried=untried,
        plateau=plateau,
        advice=[replace(each, command=context.options.on_track(each.command)) for each in advised],
        options=context.options,
    )


def _to_beat(context: Context, history: History) -> ToBeat:
    track, program, baseline = context.base_track, context.baseline_program, context.baseline
    budget = budget_of(track)
    records = [record for record in baseline.records_of(program) if record.fingerprint.get("budget") == budget]
    record = max(records, key=lambda each: (min(len(each.scores), track.seeds), each.recorded_at), default=None)
    if record and record.scores:
        scores = record.scores[: track.seeds]
        device, threads, torch = (record.fingerprint.get(key, "?") for key in ("device", "threads", "torch"))
        platform = f"{device}, {threads} threads, torch {torch}"
        note = "" if len(scores) == track.seeds else "some seeds are missing: the next session trains them"
        return ToBeat(fmean(scores), scores, "record", platform, note)
    path, session = context.relative(baseline.path), context.options.on_track("pytest experiments")
    if baseline.unknown_since(program):
        note = f"{path} was changed by hand: put it back, or accept it with `{session} --ar-record`"
        return ToBeat(None, [], "", "", note)
    known = [entry for entry in history.baselines if entry.program_sha == program.sha and entry.val_bpb]
    note = f"no record of it here: the next `{session}` trains the baseline first and records its scores"
    return ToBeat(known[-1].val_bpb if known else None, [], "ledger" if known else "", "", note)


def _defined(source: str) -> dict[str, bool]:
    """The top-level names of a program in order, without those of imports; true for constants: UPPERCASE names that
    are no class and no function."""
    return {
        name: name.isupper() and not piece.is_definition
        for piece in pieces_of(source)
        if not piece.is_import
        for name in sorted(piece.names.binds)
    }


def _untried(history: History, defined: Mapping[str, bool], experiments: Sequence[str]) -> Untried:
    """What has not been tried. Without names if the ledger does not say what entries changed."""
    changed = {name for entry in history.entries for name in entry.changes}
    changed |= {name for entry in history.trials for name in spelled_in(entry.description)}
    names = [name for name in defined if name not in changed] if changed or not history.verdicts else []
    constants = [name for name in names if defined[name]]
    return Untried(constants, [name for name in names if not defined[name]], experiments)


def _without_verdict(history: History, root: Path, track: Track) -> list[str]:
    """The experiments of this track, by name, that the ledger does not have."""
    judged = {entry.file for entry in history.entries}
    paths = (path for path in sorted(root.rglob("[!_.]*.py")) if path.name != "conftest.py")
    new = (path for path in paths if one_line(name_of(path, root)).replace('"', "'") not in judged)
    return [name_of(path, root) for path in islice(new, FILES) if _is_for(path, track)]


def _is_for(path: Path, track: Track) -> bool:
    """Whether a file sets no TRACK, or means this one."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _TRACK.search(file.read(10_000))
    except OSError:
        return False
    return found is None or track.is_meant_by(found[1])
