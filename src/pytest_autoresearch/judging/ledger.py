"""`results.tsv`, one line per verdict, and `results/`, the evidence: what every run trained, printed and scored."""

import glob
import json
import os
import stat
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.track import Track, digest

if TYPE_CHECKING:
    from pytest_autoresearch.judging.baseline import Record

COLUMNS = [
    "commit",
    "val_bpb",
    "memory_gb",
    "status",
    "description",
    "track",
    "experiment",
    "verdict",
    "delta",
    "p_value",
    "runs",
    "seconds",
    "lines_added",
    "lines_removed",
    "program_sha",
    "baseline_sha",
    "isolation",
    "finished_at",
]
"""The first five are what tools of this field already read."""
LATER = {"isolation"}
"""Columns that an older ledger need not have."""

IDENTITY = ("track", "experiment", "program_sha", "baseline_sha", "finished_at")
"""The columns that name a verdict."""


@dataclass(frozen=True)
class Verdict:
    """What an experiment earned, with all that a later session needs to replay or promote it.

    `key` names what the verdict is a function of, and `platform` the part of it that is the fingerprint; `detail` may
    hold a candidate's traceback; `memory_growth` is against the baseline, as a share of it; `provisional` is one that
    asked less than the track does; `isolation` is what was between the program and its score, "sandbox", "process" or
    "in-process"; `status` is its word in the ledger ("" until it has a line there); `recorded` means
    that it was replayed.
    """

    experiment: str
    description: str
    track: str
    outcome: Outcome
    reason: str
    experiment_sha: str
    program_sha: str
    baseline_sha: str
    key: str
    platform: str
    evidence: str
    finished_at: str
    detail: str = ""
    scores: list[float] = field(default_factory=list)
    baseline_scores: list[float] = field(default_factory=list)
    delta: float | None = None
    p_value: float | None = None
    runs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    free_seconds: float = 0.0
    first_answer: float = 0.0
    memory_gb: float = 0.0
    memory_growth: float | None = None
    isolation: str = ""
    curve: list[float | None] = field(default_factory=list)
    lines_added: int = 0
    lines_removed: int = 0
    simplifies: bool = False
    provisional: bool = False
    status: str = ""
    recorded: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON and for xdist."""
        return asdict(self) | {"outcome": str(self.outcome)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Verdict":
        """The inverse of `as_dict`. TypeError, KeyError or ValueError where the fields are others."""
        return cls(**{**fields, "outcome": Outcome(fields["outcome"])})

    @property
    def val_bpb(self) -> float | None:
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def line(self) -> str:
        """The verdict and its numbers in one line."""
        words = [self.outcome.upper() + " (recorded)" * self.recorded]
        if self.val_bpb is not None:
            words.append(f"{self.val_bpb:.4f}")
        if self.delta is not None:
            words.append(f"({self.delta:+.4f}" + (f", p {self.p_value:.2g})" if self.p_value is not None else ")"))
        if self.outcome is not Outcome.KEPT or self.simplifies:
            words.append(self.reason)
        return " ".join(words)


class Ledger:
    """The two places that runs write to, below `root`."""

    def __init__(self, root: Path) -> None:
        self.path = root / "results.tsv"
        self.folder = root / "results"

    def evidence(self, track: str, experiment: str, program_sha: str) -> Path:
        """The folder of a program's runs. All lie side by side: below one there is what its program may write."""
        return self.folder / track / f"{experiment.replace('/', '--')}-{program_sha[:7]}"

    # -- verdicts, to be replayed --

    def save(self, verdict: Verdict) -> None:
        """Keep a verdict beside its evidence."""
        with self._lock():
            self._save(verdict)

    def _save(self, verdict: Verdict) -> None:
        folder = self.folder.parent / verdict.evidence
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(replace(verdict, recorded=False).as_dict(), indent=1) + "\n"
        write_atomically(folder / f"verdict-{verdict.key}.json", text)

    def verdicts(self, track: str, experiment: str) -> list[Verdict]:
        """Every verdict on an experiment that is still in the evidence folder, oldest first."""
        folder = self.evidence(track, experiment, "???????")
        name = glob.escape(folder.name.removesuffix("-???????"))
        paths = folder.parent.glob(f"{name}-???????/verdict-*.json")
        return [verdict for verdict in self._read(paths) if verdict.experiment == experiment]

    def unlogged(self, track: str) -> list[Verdict]:
        """Every verdict of a track that was saved but got no line: its session goes on, or was killed. Oldest first."""
        folder = self.folder / track
        if leftovers := list(folder.glob("*/.verdict-*.tmp")):
            with self._lock():  # nobody is writing them now, so they are of the killed
                for path in leftovers:
                    path.unlink(missing_ok=True)
        return [verdict for verdict in self._read(folder.glob("*/verdict-*.json")) if not verdict.status]

    def _read(self, paths: Iterable[Path]) -> list[Verdict]:
        found = []
        for path in paths:
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                verdict = Verdict.from_dict(json.loads(path.read_text(encoding="utf-8")))
                if (self.folder.parent / verdict.evidence, f"verdict-{verdict.key}.json") == (path.parent, path.name):
                    found.append(verdict)
            except (OSError, ValueError, TypeError, KeyError):
                continue  # evidence is the user's to delete or break; then the experiment runs again
        return sorted(found, key=lambda verdict: verdict.finished_at)

    # -- results.tsv --

    def log_baseline(self, track: Track, record: "Record") -> None:
        """The line of a recorded baseline, unless this baseline has one: the first line of every track."""
        row = {
            "commit": self.commit(),
            "val_bpb": f"{record.val_bpb:.6f}",
            "memory_gb": f"{record.memory_gb:.1f}",
            "status": "keep",
            "description": "baseline",
            "track": track.name,
            "experiment": "baseline",
            "verdict": "kept",
            "runs": str(len(record.scores)),
            "seconds": f"{record.seconds * len(record.scores):.1f}",
            "program_sha": record.program_sha,
            "baseline_sha": record.program_sha,
            "isolation": record.isolation,
            "finished_at": record.recorded_at,
        }
        with self._lock():
            known = {tuple(line.get(name) for name in ("status", "track", "program_sha")) for line in self.rows()}
            if ("keep", track.name, record.program_sha) not in known:
                self._append(row)

    def log(self, verdict: Verdict) -> Verdict:
        """Give a verdict its line, unless it has one. Returns it with the status of its line, saved for replays.

        What has passed and is promoted later gets a second line, `keep`.
        """
        status = verdict.status or {Outcome.KEPT: "pass", Outcome.DISCARDED: "discard"}.get(verdict.outcome, "crash")
        crashed = status == "crash"
        row = {
            "commit": self.commit(),
            "val_bpb": f"{0 if crashed else verdict.val_bpb or 0:.6f}",
            "memory_gb": f"{0 if crashed else verdict.memory_gb:.1f}",
            "status": status,
            "description": verdict.description,
            "track": verdict.track,
            "experiment": verdict.experiment,
            "verdict": str(verdict.outcome),
            "delta": "" if verdict.delta is None else f"{verdict.delta:.6f}",
            "p_value": "" if verdict.p_value is None else f"{verdict.p_value:.4g}",
            "runs": str(verdict.runs),
            "seconds": f"{verdict.seconds:.1f}",
            "lines_added": str(verdict.lines_added),
            "lines_removed": str(verdict.lines_removed),
            "program_sha": verdict.program_sha,
            "baseline_sha": verdict.baseline_sha,
            "isolation": verdict.isolation,
            "finished_at": verdict.finished_at,
        }
        with self._lock():
            known = {tuple(line.get(name) for name in IDENTITY): line.get("status") for line in self.rows()}
            logged = known.get(tuple(_plain(row[name]) for name in IDENTITY))
            if not logged or (status == "keep" and logged != "keep"):
                self._append(row)
                logged = status
            verdict = replace(verdict, status=logged)
            with suppress(OSError):  # the line is what counts
                self._save(verdict)
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
        """Add a line, wholly or not at all. OSError where it cannot be written, UsageError where it does not fit."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            size, names, text = self._end_of(content)
            text += "\t".join(_plain(row.get(name, "")) for name in names) + "\n"
            with self.path.open("ab", buffering=0) as file:
                file.truncate(size)
                try:
                    left = memoryview(text.encode())
                    while left:  # a disk that fills up takes a part
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _end_of(self, content: bytes) -> tuple[int, list[str], str]:
        """How much of the file is whole lines, its columns, and what is missing before another line."""
        head, newline, _ = content.decode("utf-8-sig", errors="replace").partition("\n")
        if not newline and "\t".join(COLUMNS).startswith(head):  # new, or cut short when it was
            return 0, COLUMNS, "\t".join(COLUMNS) + "\n"
        names = head.removesuffix("\r").split("\t")
        if missing := [name for name in COLUMNS if name not in names and name not in LATER]:
            raise UsageError(f"{self.path}: no ledger: it has no column {missing[0]}; move it away, a new one is begun")
        size = content.rfind(b"\n") + 1
        tail = content[size:]
        if tail.count(b"\t") == len(names) - 1 and tail.endswith(b"+00:00"):  # the end of a whole line of ours
            return len(content), names, "\n"
        return size, names, ""

    def lock(self, evidence: Path) -> FileLock:
        """Held by whoever judges a program: of two sessions the second waits, and then finds the verdict."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / digest(str(evidence)))

    def _lock(self) -> FileLock:
        return self.lock(self.path)

    def commit(self) -> str:
        """The current git commit, 7 digits; "-" outside a repository."""
        try:
            head = subprocess.run(
                ["git", "rev-parse", "--short=7", "HEAD"], cwd=self.folder.parent, capture_output=True, text=True
            )
        except OSError:
            return "-"
        return head.stdout.strip() or "-"


def _plain(text: str) -> str:
    """A cell: readers of tables take a quotation mark for the start of one."""
    return text.translate(str.maketrans('\t\r\n"', "   '"))
