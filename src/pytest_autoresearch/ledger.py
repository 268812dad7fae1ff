"""`results.tsv`, one line per verdict, and `results/`, the evidence: what every run trained, printed and scored."""

import glob
import json
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_autoresearch.baseline import Record, write_atomically
from pytest_autoresearch.track import Track, digest
from pytest_autoresearch.verdict import Outcome

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
    "finished_at",
]
"""The first five are what tools of this field already read."""


@dataclass(frozen=True)
class Verdict:
    """What an experiment earned, with all that a later session needs to replay or promote it.

    `key` names what the verdict is a function of, and `platform` the part of it that is the fingerprint; `detail` may
    hold a candidate's traceback; `provisional` is one that asked less than the track does; `status` is its word in the
    ledger ("" until it has a line there); `recorded` means that it was replayed.
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
    memory_gb: float = 0.0
    curve: list[float | None] = field(default_factory=list)
    lines_added: int = 0
    lines_removed: int = 0
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
        if self.outcome is not Outcome.KEPT:
            words.append(self.reason)
        return " ".join(words)


class Ledger:
    """The two places that runs write to, below `root`."""

    def __init__(self, root: Path) -> None:
        self.path = root / "results.tsv"
        self.folder = root / "results"

    def evidence(self, track: str, experiment: str, program_sha: str) -> Path:
        return self.folder / track / f"{experiment}-{program_sha[:7]}"

    # -- verdicts, to be replayed --

    def save(self, verdict: Verdict) -> None:
        """Keep a verdict beside its evidence."""
        folder = self.folder.parent / verdict.evidence
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(replace(verdict, recorded=False).as_dict(), indent=1) + "\n"
        write_atomically(folder / f"verdict-{verdict.key}.json", text)

    def verdicts(self, track: str, experiment: str) -> list[Verdict]:
        """Every verdict on an experiment that is still in the evidence folder, oldest first."""
        found = []
        parent = (self.folder / track / experiment).parent
        for path in parent.glob(f"{glob.escape(Path(experiment).name)}-???????/verdict-*.json"):
            try:
                verdict = Verdict.from_dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # evidence is the user's to delete or break; then the experiment runs again
            if verdict.experiment == experiment:
                found.append(verdict)
        return sorted(found, key=lambda verdict: verdict.finished_at)

    # -- results.tsv --

    def log_baseline(self, track: Track, record: Record) -> None:
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
            "finished_at": record.recorded_at,
        }
        with self._lock():
            known = {(line["track"], line["program_sha"]) for line in self.rows() if line["status"] == "keep"}
            if (track.name, record.program_sha) not in known:
                self._append(row)

    def log(self, verdict: Verdict) -> Verdict:
        """Add a verdict's line. Returns the verdict with the status that it got, saved for replays."""
        status = verdict.status or {Outcome.KEPT: "pass", Outcome.DISCARDED: "discard", Outcome.PRUNED: "discard"}.get(
            verdict.outcome, "crash"
        )
        verdict = replace(verdict, status=status)
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
            "finished_at": verdict.finished_at,
        }
        with self._lock():
            self._append(row)
        self.save(verdict)
        return verdict

    def rows(self) -> list[dict[str, str]]:
        """The ledger's lines by column name."""
        try:
            head, *lines = self.path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, ValueError):
            return []
        names = head.split("\t")
        return [dict(zip(names, [*line.split("\t"), *[""] * len(names)], strict=False)) for line in lines]

    def _append(self, row: dict[str, str]) -> None:
        plain = str.maketrans('\t\r\n"', "   '")  # readers of tables take a quotation mark for the start of a cell
        cells = [row.get(name, "").translate(plain) for name in COLUMNS]
        if not self.path.exists() or not self.path.stat().st_size:
            write_atomically(self.path, "\t".join(COLUMNS) + "\n")
        with self.path.open("ab") as file:
            file.write(("\t".join(cells) + "\n").encode())  # one write: a line is there or it is not

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
