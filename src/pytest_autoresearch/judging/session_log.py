"""Writes the verdicts of a session into the ledger, and promotes the best one at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.recording import stored_record
from pytest_autoresearch.judging.summary import Promotion, SessionSummary
from pytest_autoresearch.programs.experiment import Program


class SessionLog:
    """The verdicts of a session, their lines in the ledger, and the promotion. Under xdist only the controller logs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._judged: dict[str, Verdict] = {}
        self._record: Record | None = None  # the baseline's, before this session promotes anything
        self._promotion: Promotion | None = None
        self._notes: list[str] = []
        self._unjudged: dict[str, str] = {}

    def leave(self, name: str, stopped: str) -> None:
        """Note that an experiment is left unjudged, and why the session has stopped."""
        self._unjudged[name] = stopped

    def add(self, name: str, verdict: Verdict) -> None:
        """Add the verdict of an experiment and write its line. A kept one gets its line at the end of the session."""
        self._judged[name] = verdict
        with self._noting_problems():
            if self._log_baseline():
                for waiting, other in self._judged.items():
                    if not other.status and other.outcome is not Outcome.KEPT:
                        self._judged[waiting] = self._context.ledger.log(other)

    def finish(self, promote: bool) -> None:
        """Write `pass` for the kept experiments, then promote the best one. A kill in between loses nothing."""
        kept = {name: verdict for name, verdict in self._judged.items() if verdict.outcome is Outcome.KEPT}
        best = None
        with self._noting_problems():
            best = self._best(kept, promote)
        for name, verdict in kept.items():
            if not (verdict.status or verdict.same_as or name == best):
                with self._noting_problems():
                    self._judged[name] = self._context.ledger.log(verdict)
        if best:
            with self._noting_problems():  # if this fails, it gets no line, and the next session promotes it
                self._promotion = self._promote(kept[best])
                status = "keep" if self._promotion else kept[best].status
                self._judged[best] = self._context.ledger.log(replace(kept[best], status=status))
        with self._noting_problems():
            self._log_lost()

    def summary(self, interrupted: bool = False) -> SessionSummary:
        """The results of this session so far."""
        judged = list(self._judged.items())
        track = self._context.track.name
        stopped = next(iter(self._unjudged.values()), "")
        notes, unjudged = list(self._notes), len(self._unjudged)
        return SessionSummary(track, self._record, judged, self._promotion, notes, interrupted, stopped, unjudged)

    def _log_baseline(self) -> bool:
        """Write the first line of a track, its baseline. False if there is no record yet: other lines must wait."""
        if self._record is None:
            record = stored_record(self._context)
            if not record.scores:
                return False
            self._record = record
        self._context.ledger.log_baseline(self._context.track.name, self._record)
        return True

    def _best(self, kept: dict[str, Verdict], promote: bool) -> str | None:
        """The experiment to promote: the lowest score of those that beat the baseline, else a simplification."""
        if kept and (self._context.provisional or not self._context.options.promote or not promote):
            why = self._context.provisional or ("--ar-no-promote" if promote else "interrupted")
            self._notes.append(f"nothing promoted: {why}")
            return None
        candidates = [name for name, verdict in kept.items() if not verdict.provisional]
        return min(candidates, key=lambda name: (kept[name].simplifies, fmean(kept[name].scores)), default=None)

    def _promote(self, verdict: Verdict) -> Promotion | None:
        context = self._context
        program = context.evidence.program(verdict)
        if program is None:
            path = f"{verdict.evidence}/seed-0/program.py"
            raise UsageError(f"{path}: not the program that was judged; nothing promoted")
        record = Record(program.sha, program.code_sha, context.fingerprint, verdict.stats, now())
        if context.baseline.promote(program.source, record, verdict):
            return Promotion(verdict, fmean(verdict.baseline_scores), record.val_bpb, context.baseline.path)
        if Program(context.baseline.source()).sha == verdict.program_sha:
            self._notes.append(f"another session has promoted {verdict.experiment}")
        else:
            self._notes.append(
                f"nothing promoted: {verdict.experiment} was kept against an earlier baseline: "
                f"{context.relative(context.baseline.path)} or its record has changed meanwhile; "
                "the next session tries it again"
            )
        return None

    def _log_lost(self) -> None:
        """Write the lines of killed sessions whose verdicts cannot be replayed, because the baseline has changed."""
        sha = Program(self._context.baseline.source()).sha
        unlogged = self._context.evidence.unlogged(self._context.track.name)
        lost = [verdict for verdict in unlogged if verdict.baseline_sha != sha]
        if lost and self._log_baseline():
            for verdict in lost:
                self._context.ledger.log(verdict)

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        """If the ledger or the baseline cannot be written, note that in the summary and go on."""
        try:
            yield
        except (UsageError, OSError) as error:
            if (line := self._context.shorten(error)) not in self._notes:
                self._notes.append(line)
