"""When a session stops: after some hours, at a score, or after verdicts without a keep. What is left is skipped."""

import json
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace

from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.records import Outcome, Verdict, check_types
from pytest_autoresearch.core.text import counted
from pytest_autoresearch.judging.evidence import Evidence


@dataclass(frozen=True)
class Tally:
    """The verdicts of a session so far. `without_keep` of them came in a row; `best` is the lowest val_bpb kept."""

    without_keep: int = 0
    best: float | None = None

    def plus(self, verdict: Verdict) -> "Tally":
        """With one more verdict. Replayed ones and trials of sweeps are no verdicts without a keep."""
        if verdict.outcome is Outcome.KEPT and verdict.val_bpb is not None:
            best = verdict.val_bpb if self.best is None else min(self.best, verdict.val_bpb)
            return Tally(self.without_keep if verdict.replayed else 0, best)
        counts = not verdict.replayed and verdict.outcome is not Outcome.TRIED
        return replace(self, without_keep=self.without_keep + counts)


@dataclass(frozen=True)
class StopRule:
    """`--ar-hours`, `--ar-until` (val_bpb) and `--ar-patience` (verdicts); None where an option is not given."""

    hours: float | None = None
    until: float | None = None
    patience: int | None = None

    def reason(self, hours: float, tally: Tally, record: float | None = None) -> str:
        """Why no other experiment begins after so many hours; "" while the session goes on. `record`: val_bpb."""
        if self.hours is not None and hours >= self.hours:
            return f"--ar-hours {self.hours:g} have passed"
        if self.until is not None:
            if record is not None and record <= self.until:
                return f"--ar-until {self.until:g} is reached by the baseline, {record:.4f}"
            if tally.best is not None and tally.best <= self.until:
                return f"--ar-until {self.until:g} is reached, {tally.best:.4f}"
        if self.patience is not None and tally.without_keep >= self.patience:
            return f"--ar-patience {counted(self.patience, 'verdict')} without a keep"
        return ""


NEVER = StopRule()
"""The rule of a session that judges all."""


class Stopping:
    """Applies a rule to one session. Processes that share a session count its verdicts in a file of that name."""

    def __init__(self, rule: StopRule, evidence: Evidence, began: float | None = None, shared: str = "") -> None:
        """`began` is the time (s) of the session's first process; None: now."""
        self._rule = rule
        self._began = time.time() if began is None else began
        self._tally = Tally()
        self._path = evidence.folder / f".session-{shared}.json" if shared and rule != NEVER else None
        self._evidence = evidence

    def add(self, verdict: Verdict) -> None:
        """Count a verdict."""
        with self._evidence.lock(self._path.name) if self._path else nullcontext():
            self._tally = self._read().plus(verdict)
            if self._path:
                write_atomically(self._path, json.dumps(asdict(self._tally)))

    def reason(self, record: float | None = None) -> str:
        """Why no other experiment begins; "" while the session goes on. `record` is the baseline's val_bpb."""
        return self._rule.reason((time.time() - self._began) / 3600, self._read(), record)

    def close(self) -> None:
        """Remove the file in which processes count verdicts."""
        if self._path:
            self._path.unlink(missing_ok=True)

    def _read(self) -> Tally:
        if self._path:
            with suppress(OSError, ValueError, TypeError):  # not there yet, or broken by people
                return check_types(Tally(**json.loads(self._path.read_text(encoding="utf-8"))))
        return self._tally
