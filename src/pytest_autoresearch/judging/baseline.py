"""The baseline of a track: the program to beat and its record; recorded once per platform, promoted crash-safe."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import temporary, write_atomically
from pytest_autoresearch.core.track import Track, digest
from pytest_autoresearch.judging.ledger import Ledger, Verdict
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.statements import unix


@dataclass(frozen=True)
class Record:
    """What the baseline scored on one platform.

    `scores[n]` is the val_bpb of seed n; `curve` the mean training loss (nats per token) in each hundredth of the
    budget; `memory_gb` the peak, `seconds` the mean wall time and `cpu_seconds` the mean CPU time of its runs, and
    `free_seconds` what they took on average for import, building and compilation; `first_answer` as in `Result`, and
    `isolation` as in `Verdict`.
    """

    program_sha: str
    fingerprint: dict[str, str]
    scores: list[float] = field(default_factory=list)
    curve: list[float | None] = field(default_factory=list)
    memory_gb: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    free_seconds: float = 0.0
    first_answer: float = 0.0
    isolation: str = ""
    recorded_at: str = ""

    @property
    def val_bpb(self) -> float:
        return fmean(self.scores)


def mean_curve(curves: Iterable[list[float | None]]) -> list[float | None]:
    """The mean over runs, point by point, of the points that there are."""
    points = ([value for value in column if value is not None] for column in zip(*curves, strict=True))
    return [fmean(column) if column else None for column in points]


@dataclass(frozen=True)
class Baseline:
    """`train.py` and `baseline.json` of one track, on disk; what is promoted also gets its line in the ledger."""

    track: Track
    ledger: Ledger

    @property
    def path(self) -> Path:
        return self.track.program_path

    @property
    def record_path(self) -> Path:
        return self.track.folder / "baseline.json"

    @property
    def _promotion_path(self) -> Path:
        return self.track.folder / "promotion.json"

    def lock(self) -> FileLock:
        """Held by whoever changes the folder: one session records or promotes at a time."""
        return FileLock(self.track.folder / ".lock", is_singleton=True)  # so that a holder may take it again

    def source(self) -> str:
        """The program to beat. An interrupted promotion is completed first. UsageError where there is none."""
        try:
            self.complete_promotion()
            return unix(self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path}: the baseline program cannot be read: {error}") from None

    def record(self, fingerprint: dict[str, str], source: str) -> Record:
        """The record of this program on this platform; without scores where there is none yet."""
        stored = self._records().get(digest(fingerprint))
        if stored and stored["program_sha"] == sha256(source):
            return Record(**stored)
        return Record(sha256(source), fingerprint)

    def write_record(self, record: Record) -> None:
        """Put one platform's record beside the others. Call it with the lock held."""
        write_atomically(self.record_path, self._with(record))

    def promote(self, source: str, record: Record, verdict: Verdict) -> bool:
        """Make `source` the baseline, together with its record and its verdict's line in the ledger.

        False when the baseline is no longer the one that it was judged against. First all of it goes into a
        write-ahead file; whoever comes next completes what a crash has left of it.
        """
        with self.lock():
            if sha256(self.source()) != verdict.baseline_sha:
                return False
            promotion = {
                "train.py": source,
                "baseline.json": self._with(record),
                "verdict": replace(verdict, status="keep").as_dict(),
            }
            try:
                write_atomically(self._promotion_path, json.dumps(promotion))
                self.ledger.log(replace(verdict, status="keep"))
            except (OSError, UsageError):
                self._promotion_path.unlink(missing_ok=True)  # without its line nothing becomes the baseline
                raise
            try:
                self.complete_promotion()
            except OSError as error:
                why = f"{error.filename}: {error.strerror}"
                raise UsageError(f"{why}; the next session completes the promotion of {verdict.experiment}") from None
        return True

    def complete_promotion(self) -> None:
        """Finish the promotion that the write-ahead file describes, if there is one, and clear what a kill has left."""
        paths = self._promotion_path, self.path, self.record_path
        if not any(path.exists() for path in (self._promotion_path, *map(temporary, paths))):
            return
        with self.lock():
            for path in paths:
                temporary(path).unlink(missing_ok=True)
            try:
                promotion = json.loads(self._promotion_path.read_text(encoding="utf-8"))
                program, records = str(promotion["train.py"]), str(promotion["baseline.json"])
                verdict = Verdict.from_dict(promotion["verdict"])
            except FileNotFoundError:
                return  # somebody else has just completed it
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{self._promotion_path}: not a promotion ({error!r}); delete it") from None
            self.ledger.log(verdict)
            write_atomically(self.path, program)
            write_atomically(self.record_path, records)
            self._promotion_path.unlink()

    def _with(self, record: Record) -> str:
        """`baseline.json` with this record in it; those of other programs say nothing any more and go."""
        records = {
            key: stored for key, stored in self._records().items() if stored["program_sha"] == record.program_sha
        }
        records[digest(record.fingerprint)] = asdict(record)
        return json.dumps({"records": records}, indent=1) + "\n"

    def _records(self) -> dict[str, dict[str, Any]]:
        try:
            document = json.loads(self.record_path.read_text(encoding="utf-8"))
            records: dict[str, dict[str, Any]] = document["records"]
            for stored in records.values():
                [float(score) for score in Record(**stored).scores]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{self.record_path}: not a baseline record ({error!r}); delete it and the baseline is recorded anew"
            ) from None
        return records
