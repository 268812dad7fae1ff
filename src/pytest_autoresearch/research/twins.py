"""Twins: experiments that changed nearly the same before. An experiment with a twin is judged, with a note of it."""

from contextlib import suppress
from functools import cached_property, lru_cache

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.plan import Plan
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.similar import Change, similarity
from pytest_autoresearch.research.history import Entry, History, file_of

ALIKE = 0.8
"""The least similarity of twins. Of the experiments that come with this project, no two have more than 0.3."""
MOST = 50
"""How many programs are read at most for one experiment: those with the most changed names in common."""


class Twins:
    """The verdicts of a track and of this session, among which the twin of an experiment is looked for.

    The ledger is read once. An experiment is no twin of itself, nor of another point of its sweep.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._source = lru_cache(context.evidence.source)

    @cached_property
    def _judged(self) -> list[Entry | Verdict]:
        return list(History.read(self._context.ledger, self._context.track.name).verdicts)

    def add(self, verdict: Verdict) -> None:
        """Add a verdict of this session."""
        self._judged.append(verdict)

    def note(self, plan: Plan) -> str:
        """The twin of a planned experiment and its verdict: `nearly the same as silu (discarded, +0.0021)`; else ""."""
        try:
            twin = self._find(plan)
        except (UsageError, SyntaxError, ValueError, RecursionError, MemoryError):
            return ""  # a note is worth no failure
        if twin is None:
            return ""
        words = [str(twin.outcome)] + ([] if twin.delta is None else [f"{twin.delta:+.4f}"])
        words += ["against an earlier baseline"] * (twin.baseline_sha != self._context.baseline_program.sha)
        return one_line(f"nearly the same as {twin.experiment} ({', '.join(words)})")

    def _find(self, plan: Plan) -> Entry | Verdict | None:
        baseline, source = self._context.baseline_program.source, plan.program.source
        names = changed_names(baseline, source)
        own, best, twin = Change.of(baseline, source, names), 0.0, None
        for candidate in self._candidates(plan.experiment.name, set(names)):
            change = self._change(candidate)
            if change and (alike := similarity(own, change)) > best and alike >= ALIKE:
                best, twin = alike, candidate
        return twin

    def _candidates(self, name: str, changed: set[str]) -> list[Entry | Verdict]:
        """Verdicts on other experiments that change some of these names: the most alike first, then the latest."""
        file = file_of(name)
        latest: dict[str, Entry | Verdict] = {}
        for each in reversed(self._judged):
            if changed.intersection(each.changes) and file_of(each.experiment) != file:
                latest.setdefault(each.program_sha, each)

        def overlap(each: Entry | Verdict) -> float:
            return len(changed.intersection(each.changes)) / len(changed.union(each.changes))

        return sorted(latest.values(), key=overlap, reverse=True)[:MOST]

    def _change(self, judged: Entry | Verdict) -> Change | None:
        """The change that was judged; None if its program, or its baseline's, is gone or cannot be compared."""
        current, evidence = self._context.baseline_program, self._context.evidence
        program = evidence.program_of(judged.track, judged.experiment, judged.program_sha)
        is_current = judged.baseline_sha == current.sha
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            baseline = current.source if is_current else self._source(judged.baseline_sha)
            return Change.of(baseline, program.source, judged.changes) if program and baseline else None
        return None
