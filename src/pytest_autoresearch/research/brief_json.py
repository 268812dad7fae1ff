"""The brief as one object of plain values, which `autoresearch brief --json` prints.

The keys do not change within one `format`:

    format        1
    goal          what to do, in one sentence
    track         name, description, device, budget, corpus, vocab_size, sequence_length, seeds, alpha, noise
    to_beat       val_bpb, scores (by seed), source ("record", "ledger" or ""), platform, note (what is missing)
    gain          delta (mean difference over all seeds that is kept), first_run (difference of the first run from which
                  it goes on), seeds; null if the noise is not known
    counts        verdicts, kept, promoted, discarded, failed, trials
    promoted      the programs to beat so far, the latest first: idea + val_bpb, recorded (not promoted)
    families      name, tried, kept, failed (no score), best_delta, not_kept (ideas, the best first)
    failures      why runs had no score: outcome, reason, count, experiment (the latest)
    near_misses   idea + kept, met (whose promotion made the baseline), promotions_since (0: met today's baseline)
    constants     name, share (0 … 1), trials, best, delta, lowest, highest: see `research.importance`
    untried       constants, definitions (names of today's program), experiments (files without a verdict)
    plateau       is_plateau, since, usual, rule, step (what to do now on a plateau, or ""), next_at (verdicts since the
                  last keep at which the step after it begins, or null)
    advice        what, why, names, command, due (to be done now, before the others)

An idea has experiment, description, outcome, delta, p_value, runs and reason. promoted, families, not_kept, failures,
near_misses, constants and those of untried are {"total": how many there are, "items": [the first LIST, or FEW]}.
A text has at most TEXT characters, on one line. All but goal, note, rule, step, why and command may come from
experiments.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.research.brief import GOAL, Brief
from pytest_autoresearch.research.families import Failure, Family
from pytest_autoresearch.research.history import Entry
from pytest_autoresearch.research.near_misses import NearMiss

LIST, FEW, TEXT = 50, 5, 200
"""The most items of a list, the most ideas of one family, and the most characters of a text."""

Item = TypeVar("Item")


def as_dict(brief: Brief) -> dict[str, Any]:
    """The facts as plain values; the module's docstring has the keys."""
    track, gain = brief.track, brief.gain
    named = ("name", "description", "device", "corpus", "vocab_size", "sequence_length", "seeds", "alpha", "noise")
    facts = {
        "format": 1,
        "goal": GOAL,
        "track": {name: getattr(track, name) for name in named} | {"budget": str(track.budget)},
        "to_beat": asdict(brief.to_beat),
        "gain": asdict(gain) if gain else None,
        "counts": brief.counts,
        "promoted": _listed(brief.baselines, _baseline),
        "families": _listed(brief.families, _family),
        "failures": _listed(brief.failures, _failure),
        "near_misses": _listed(brief.near_misses, _near_miss),
        "constants": _listed(brief.constants, vars),
        "untried": {kind: _listed(names, str) for kind, names in vars(brief.untried).items()},
        "plateau": asdict(brief.plateau),
        "advice": [asdict(each) | {"due": each in brief.due} for each in brief.advice],
    }
    bounded: dict[str, Any] = _bounded(facts)
    return bounded


def _listed(values: Sequence[Item], plain: Callable[[Item], Any], at_most: int = LIST) -> dict[str, Any]:
    return {"total": len(values), "items": [plain(value) for value in values[:at_most]]}


def _idea(entry: Entry) -> dict[str, Any]:
    return {
        "experiment": entry.experiment,
        "description": entry.description,
        "outcome": str(entry.outcome),
        "delta": entry.delta,
        "p_value": entry.p_value,
        "runs": entry.runs,
        "reason": entry.reason,
    }


def _baseline(value: tuple[Entry, bool]) -> dict[str, Any]:
    entry, recorded = value
    return _idea(entry) | {"val_bpb": entry.val_bpb, "recorded": recorded}


def _family(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "tried": len(family.entries),
        "kept": family.kept,
        "failed": family.failed,
        "best_delta": family.best_delta,
        "not_kept": _listed(family.not_kept, _idea, FEW),
    }


def _failure(failure: Failure) -> dict[str, Any]:
    latest = failure.latest
    return {
        "outcome": str(latest.outcome),
        "reason": latest.reason,
        "count": failure.count,
        "experiment": latest.experiment,
    }


def _near_miss(miss: NearMiss) -> dict[str, Any]:
    return _idea(miss.entry) | {"kept": miss.kept, "met": miss.met, "promotions_since": miss.promotions_since}


def _bounded(value: Any) -> Any:
    """The same value, each text on one line and cut to TEXT characters."""
    if isinstance(value, dict):
        return {key: _bounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(inner) for inner in value]
    return one_line(value[:TEXT])[:TEXT] if isinstance(value, str) else value
