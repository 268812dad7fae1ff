"""What a person or an agent sees: the live line of a run, the words of a verdict, the table at the end."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import fingerprint
from pytest_autoresearch.judging.baseline import Record
from pytest_autoresearch.judging.ledger import Verdict

if TYPE_CHECKING:
    from pytest_autoresearch.judging.session import Session
    from pytest_autoresearch.referee.executor import RunProgress as Progress

LETTERS = {
    Outcome.KEPT: "K",
    Outcome.DISCARDED: "D",
    Outcome.CRASHED: "C",
    Outcome.OUT_OF_MEMORY: "M",
    Outcome.DIVERGED: "V",
    Outcome.TIMED_OUT: "T",
    Outcome.DISQUALIFIED: "Q",
}
SAVE, RESTORE, CLEAR = "\x1b7", "\x1b8", "\x1b[K"
REFRESH = 0.2  # seconds
LIVE_WIDTH = 60  # columns that the live line wants


class Terminal:
    """Shows runs while they go on: one live line on a terminal, nothing of it in a pipe.

    `uncaptured` opens a block in which standard output is the real one; `say` prints a whole line; `column` tells how
    far pytest has come on its line, and `newline` ends that line.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        uncaptured: Callable[[], AbstractContextManager[None]],
        column: Callable[[], int],
        newline: Callable[[], None],
        live: bool,
    ) -> None:
        self._say, self._uncaptured, self._column, self._newline = say, uncaptured, column, newline
        self._live = live

    @contextmanager
    def _line(self) -> Iterator[Callable[[str], None]]:
        """A stretch of the current line that can be redrawn, and is empty again afterwards."""
        width = shutil.get_terminal_size().columns
        if width - self._column() < LIVE_WIDTH:
            self._newline()
        room = width - self._column() - 1
        shown = 0.0

        def redraw(text: str) -> None:
            nonlocal shown
            if time.monotonic() - shown < REFRESH:
                return
            with self._uncaptured():
                sys.stdout.write((RESTORE if shown else SAVE) + text[:room] + CLEAR)
                sys.stdout.flush()
            shown = time.monotonic()

        try:
            yield redraw
        finally:
            if shown:
                with self._uncaptured():
                    sys.stdout.write(RESTORE + CLEAR)
                    sys.stdout.flush()

    @contextmanager
    def watch(self, label: str) -> Iterator[Callable[["Progress"], None]]:
        """Show one run: label, bar, time left, loss, tokens per second."""
        if not self._live:
            yield lambda progress: None
            return
        with self._line() as redraw:
            yield lambda progress: redraw(f"{label} {describe(progress)}")

    @contextmanager
    def preparing(self) -> Iterator[Callable[[str, float], None]]:
        """Show how the track's text becomes rows of tokens."""
        stages: list[str] = []
        with self._line() if self._live else nullcontext(lambda text: None) as redraw:

            def show(stage: str, done: float) -> None:
                if not stages:
                    self._say("autoresearch: preparing the track's text, once")
                stages.append(stage)
                redraw(f"{stage} {bar(done)}")

            yield show

    def recorded(self, record: Record) -> None:
        scores = " ".join(f"{score:.4f}" for score in record.scores)
        self._say(
            f"autoresearch: baseline recorded: val_bpb {record.val_bpb:.4f} ({scores}), {record.seconds:.0f} s a run"
        )


def describe(progress: "Progress") -> str:
    """One run in one line: `training ━━━━━━──── 62 % 6 s left, loss 2.314, 21k tokens/s`."""
    words = f"{progress.stage:9}{bar(progress.done)}"
    if progress.stage == "training" and not math.isnan(progress.seconds_left):
        words += f" {progress.seconds_left:.0f} s left"
    if not math.isnan(progress.loss):
        words += f", loss {progress.loss:.3f}"
    if progress.tokens_per_second:
        words += f", {progress.tokens_per_second / 1000:.3g}k tokens/s"
    return words


def bar(done: float, width: int = 12) -> str:
    """`━━━━━━────── 50 %`"""
    full = round(min(max(done, 0.0), 1.0) * width)
    return "━" * full + "─" * (width - full) + f" {done:4.0%}"


def failure_message(verdict: Verdict) -> str:
    """What stands under FAILURES: one line with the numbers; for a crash the candidate's own traceback, too."""
    lines = [verdict.line]
    if verdict.delta is not None:
        pairs = zip(verdict.scores, verdict.baseline_scores, strict=False)
        lines[0] += "; per seed " + ", ".join(f"{score:.4f} against {record:.4f}" for score, record in pairs)
    if verdict.detail:
        lines += verdict.detail.rstrip().splitlines()
    if verdict.runs and verdict.outcome is not Outcome.DISCARDED:
        lines.append(f"see {verdict.evidence}/seed-{verdict.runs - 1}/log.txt")
    return "\n".join(lines)


def table(track: str, record: Record | None, verdicts: list[Verdict]) -> str:
    """All verdicts of a session, best first, below the baseline that they were judged by."""
    from tabulate import tabulate

    rows: list[list[str]] = []
    if record is not None and record.scores:
        runs, seconds = len(record.scores), record.seconds
        rows.append(
            ["baseline", f"{record.val_bpb:.4f}", "", "", str(runs), _time(seconds * runs), _gb(record), "", ""]
        )
    for verdict in sorted(verdicts, key=lambda v: (v.delta is None, v.delta or 0.0)):
        changed = f"+{verdict.lines_added} −{verdict.lines_removed}" if verdict.runs else ""
        rows.append(
            [
                verdict.experiment,
                "" if verdict.val_bpb is None else f"{verdict.val_bpb:.4f}",
                "" if verdict.delta is None else f"{verdict.delta:+.4f}",
                "" if verdict.p_value is None else f"{verdict.p_value:.2g}",
                str(verdict.runs),
                _time(verdict.seconds),
                _gb(verdict),
                changed,
                verdict.outcome.upper(),
            ]
        )
    headers = [f"track {track}", "val_bpb", "delta", "p", "runs", "time", "memory", "lines", "verdict"]
    align = ("left", *["right"] * 7, "left")
    return tabulate(rows, headers=headers, tablefmt="simple", colalign=align, disable_numparse=True)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _gb(measured: Record | Verdict) -> str:
    growth = getattr(measured, "memory_growth", None)
    return f"{measured.memory_gb:.1f} GB" * bool(measured.memory_gb) + (
        f" {round(growth, 2) + 0.0:+.0%}" if growth is not None else ""
    )


def header(session: "Session") -> list[str]:
    """The track and the record that experiments are judged by."""
    try:
        track, sandbox = session.track, session.isolation.words
        record = None if session.lacks_corpus else session.stored_record()
    except UsageError as error:
        return [f"autoresearch: {session.shorten(error)}"]
    known, program = fingerprint(track, ""), session.relative(track.program_path)
    lines = [
        f"autoresearch: track {track.name} on {known['device'].partition(': ')[2]} ({known['threads']} threads), "
        f"{track.budget} a run, {track.seeds} seed{'s' * (track.seeds > 1)}, {sandbox}"
    ]
    if record is None:
        lines.append(f"autoresearch: corpus {track.corpus} is not in the cache: it is fetched first")
    elif session.options.record:
        lines.append(f"autoresearch: {program} is recorded anew first")
    elif len(record.scores) < track.seeds:
        lines.append(f"autoresearch: no record for this platform: {program} is recorded first")
    else:
        lines.append(f"autoresearch: baseline {record.val_bpb:.4f} val_bpb, recorded {record.recorded_at}")
    if session.provisional:
        lines.append(f"autoresearch: nothing will be promoted: {session.provisional}")
    return lines


def summary(session: "Session") -> list[str]:
    """The table of this session's verdicts, what was promoted, and what to know about the rest."""
    lines = table(session.track.name, session.baseline_before, session.verdicts).splitlines()
    if session.promotion:
        verdict, before, after = session.promotion.verdict, session.promotion.before, session.promotion.after
        lines.append(
            f"promoted {verdict.experiment}: {session.relative(session.promotion.path)} "
            f"{before:.4f} → {after:.4f} val_bpb ({after / before - 1:+.2%})"
        )
        if outrun := [v.experiment for v in session.verdicts if v.status == "pass" and not v.provisional]:
            lines.append(f"kept but outrun: {', '.join(outrun)}; the next session tries them on the new baseline")
    if recorded := sum(verdict.recorded for verdict in session.verdicts):
        lines.append(f"recorded earlier and not trained again: {recorded} (--ar-rerun trains again)")
    return lines + session.notes
