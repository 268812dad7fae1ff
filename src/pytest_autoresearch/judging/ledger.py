"""`results.tsv`, the ledger: one line for each verdict, and one for each program that becomes the baseline."""

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.evidence import Evidence

COLUMNS = [
    *("commit", "val_bpb", "memory_gb", "status", "description"),  # the five columns of karpathy/autoresearch
    *("track", "experiment", "verdict", "delta", "p_value", "runs", "seconds", "lines_added", "lines_removed"),
    *("program_sha", "baseline_sha", "isolation", "changes", "reason", "finished_at"),
]
STATUS = {Outcome.KEPT: "pass", Outcome.DISCARDED: "discard", Outcome.TRIED: "trial"}
"""The status of a verdict that has not been promoted; any other outcome is a `crash`."""
LATER = {"isolation", "changes", "reason"}
"""Columns that older ledgers may lack."""
IDENTITY = ("track", "experiment", "program_sha", "baseline_sha", "finished_at")
"""The columns that identify a verdict; the time is to the microsecond."""
WORDS = {"description", "track", "experiment", "reason"}
"""Columns of text that users or programs choose. A spreadsheet would run a cell of theirs that looks like a formula."""


class Ledger:
    """The table of a project. It is read by column names and only appended to, a line at a time."""

    def __init__(self, root: Path, *sources: Path) -> None:
        """`sources` are the folders of programs: uncommitted changes in them mark the commit as dirty."""
        self.path = root / "results.tsv"
        self.evidence = Evidence(root)
        self._sources = sources

    def log_baseline(self, track: str, record: Record) -> None:
        """Write the line of a recorded baseline, unless the ledger has it: the first line of every track."""
        stats = record.stats
        row = {
            "commit": self.commit(),
            "val_bpb": f"{record.val_bpb:.6f}",
            "memory_gb": f"{stats.peak_memory_gb:.1f}",
            "status": "keep",
            "description": "baseline, changed by hand" if record.by_hand else "baseline",
            "track": track,
            "experiment": "baseline",
            "verdict": "kept",
            "runs": str(len(stats)),
            "seconds": f"{sum(stats.seconds):.1f}",
            "program_sha": record.program_sha,
            "baseline_sha": record.program_sha,
            "isolation": stats.isolation[-1],
            "finished_at": record.recorded_at,
        }
        with self._lock():
            names = ["status", "track", "program_sha"]
            names += ["description"] * record.by_hand  # who goes back to an earlier baseline does so by hand, too
            if all(any(line.get(name) != row[name] for name in names) for line in self.rows()):
                self._append(row)

    def log(self, verdict: Verdict) -> Verdict:
        """Write the line of a verdict, unless the ledger has it. Saves and returns the verdict with its line's status.

        A verdict with the line `pass` that is promoted later gets a second line, `keep`.
        """
        status = verdict.status or STATUS.get(verdict.outcome, "crash")
        crashed = status == "crash"
        row = {
            "commit": self.commit(),
            "val_bpb": f"{0 if crashed else verdict.val_bpb or 0:.6f}",
            "memory_gb": f"{0 if crashed else verdict.stats.peak_memory_gb:.1f}",
            "status": status,
            "description": verdict.description,
            "track": verdict.track,
            "experiment": verdict.experiment,
            "verdict": str(verdict.outcome),
            "delta": "" if verdict.delta is None else f"{verdict.delta:.6f}",
            "p_value": "" if verdict.p_value is None else f"{verdict.p_value:.4g}",
            "runs": str(verdict.runs),
            "seconds": f"{sum(verdict.stats.seconds):.1f}",
            "lines_added": str(verdict.lines_added),
            "lines_removed": str(verdict.lines_removed),
            "program_sha": verdict.program_sha,
            "baseline_sha": verdict.baseline_sha,
            "isolation": "".join(verdict.stats.isolation[-1:]),
            "finished_at": verdict.finished_at,
            "changes": " ".join(verdict.changes),
            "reason": verdict.reason,
        }
        with self._lock():
            known = {tuple(line.get(name) for name in IDENTITY): line.get("status") for line in self.rows()}
            logged = known.get(tuple(_cell(name, row[name]) for name in IDENTITY))
            if not logged or (status == "keep" and logged != "keep"):
                self._append(row)
                logged = status
            verdict = replace(verdict, status=logged)
            with suppress(OSError):  # the line matters more than the saved status
                self.evidence.save(verdict)
        return verdict

    def rows(self) -> list[dict[str, str]]:
        """The ledger's lines by column name. UsageError where it cannot be read."""
        try:
            head, *lines = self.path.read_text(encoding="utf-8-sig", errors="replace").removesuffix("\n").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror}") from None
        names = head.split("\t")
        return [dict(zip(names, [*line.split("\t"), *[""] * len(names)], strict=False)) for line in lines]

    def _append(self, row: dict[str, str]) -> None:
        """Add a whole line or nothing. OSError if it cannot be written, UsageError if the file is no ledger."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            size, names, text = self._end_of(content)
            text += "\t".join(_cell(name, row.get(name, "")) for name in names) + "\n"
            with self.path.open("ab", buffering=0) as file:
                file.truncate(size)
                try:
                    left = memoryview(text.encode())
                    while left:  # a disk that is almost full takes only a part
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _end_of(self, content: bytes) -> tuple[int, list[str], str]:
        """The bytes of whole lines in the file, its columns, and the text to insert before another line."""
        head, newline, _ = content.decode("utf-8-sig", errors="replace").partition("\n")
        if not newline and "\t".join(COLUMNS).startswith(head):  # a new file, or a header that was cut short
            return 0, COLUMNS, "\t".join(COLUMNS) + "\n"
        names = head.removesuffix("\r").split("\t")
        if missing := [name for name in COLUMNS if name not in names and name not in LATER]:
            raise UsageError(
                f"{self.path}: not a ledger: it has no column {missing[0]}; move it away to begin a new one"
            )
        size = content.rfind(b"\n") + 1
        tail = content[size:]
        if tail.count(b"\t") == len(names) - 1 and tail.endswith(
            b"+00:00"
        ):  # a whole line of ours, only its newline is missing
            return len(content), names, "\n"
        return size, names, ""

    def _lock(self) -> FileLock:
        return self.evidence.lock("results.tsv")

    def commit(self) -> str:
        """The current git commit, 7 digits, and `+` where the programs differ from it; "-" outside a repository."""
        head = self._git("rev-parse", "--short=7", "HEAD")
        if not head:
            return "-"
        return head + "+" * bool(self._git("status", "--porcelain", "--", *map(str, self._sources), ":(exclude)*.json"))

    def _git(self, *arguments: str) -> str:
        with suppress(OSError):
            done = subprocess.run(["git", *arguments], cwd=self.path.parent, capture_output=True, text=True)
            return done.stdout.strip()
        return ""


def _cell(column: str, text: str) -> str:
    """A cell in one line, without quotation marks, which would break the table for its readers.

    A text that a spreadsheet would take for a formula begins with `'`, as one would type it there.
    """
    text = one_line(text).replace('"', "'")
    return f"'{text}" if column in WORDS and text.startswith(("=", "+", "-", "@")) else text
