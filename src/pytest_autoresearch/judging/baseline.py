"""The baseline of a track: the program to beat and its record; recorded once per platform, promoted crash-safe."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now, temporary, write_atomically
from pytest_autoresearch.core.records import Record, Verdict, check_types
from pytest_autoresearch.core.text import read_source
from pytest_autoresearch.core.track import Track, digest
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import BASELINE_BYTES, Program
from pytest_autoresearch.programs.history import changed_lines
from pytest_autoresearch.programs.statements import unix

_SHORT_LIST = re.compile(r"\[\n[^\[\]{}]*\n\s*\]")
"""A list of plain values as `json` writes it: put on one line, because people read the diff of a record."""


@dataclass(frozen=True)
class PastPromotion:
    """A promotion as `baseline.json` keeps it: `changed` holds the lines that it added, by top-level name."""

    experiment: str
    changed: Mapping[str, list[str]]
    promoted_at: str


@dataclass(frozen=True)
class Baseline:
    """`train.py` and `baseline.json` of one track, on disk. A promotion also writes its line in the ledger."""

    track: Track
    ledger: Ledger

    @property
    def path(self) -> Path:
        """The program to beat."""
        return self.track.program_path

    @property
    def record_path(self) -> Path:
        """The file of the program's records, by platform, and of the promotions so far."""
        return self.track.folder / "baseline.json"

    @property
    def _promotion_path(self) -> Path:
        return self.track.folder / "promotion.json"

    def lock(self) -> FileLock:
        """The lock for changes in the folder: only one session records or promotes at a time."""
        return FileLock(self.track.folder / ".lock", is_singleton=True)  # the holder may acquire it again

    def source(self) -> str:
        """The program to beat. Completes an interrupted promotion first. UsageError if there is no program."""
        try:
            self.complete_promotion()
            return unix(read_source(self.path, BASELINE_BYTES))
        except OSError as error:
            raise UsageError(f"{error.filename or self.path}: {error.strerror or error}") from None

    # -- records --

    def record(self, fingerprint: dict[str, str], program: Program) -> Record:
        """The record of this program on this platform; an empty one if there is none yet."""
        for stored in self._read().records:
            if stored.fingerprint == fingerprint and _is_of(stored, program):
                return stored
        return Record(program.sha, program.code_sha, fingerprint)

    def lost(self, record: Record) -> float:
        """By how many val_bpb the platform's best record so far, of any program, is below this one; 0 if none is."""
        return max(0.0, _above(self._read().best.get(digest(record.fingerprint), []), record.scores))

    def unknown_since(self, program: Program, budget: str = "") -> Record | None:
        """The latest record, if there are records and none is of this program: it was changed by hand. Else None.

        A record for this budget comes before a later one for another budget.
        """
        records = self._read().records
        if any(_is_of(record, program) for record in records):
            return None
        return max(records, key=lambda r: (r.fingerprint.get("budget") == budget, r.recorded_at), default=None)

    def records_of(self, program: Program) -> list[Record]:
        """The records of this program on all platforms."""
        return [record for record in self._read().records if _is_of(record, program)]

    def is_by_hand(self, program: Program) -> bool:
        """Whether this program was changed by hand: a record of it on some platform says so, or it has none."""
        return any(record.by_hand for record in self.records_of(program)) or self.unknown_since(program) is not None

    def write_record(self, record: Record, keeps_others: bool = False) -> None:
        """Store the record of one platform. Drops records of other programs, unless `keeps_others`: for a quick look.

        Call this with the lock held.
        """
        write_atomically(self.record_path, self._with(record, keeps_others=keeps_others))

    def promotions(self) -> list[PastPromotion]:
        """The promotions so far, oldest first."""
        return self._read().promotions

    # -- promotion --

    def promote(self, source: str, record: Record, verdict: Verdict) -> bool:
        """Make `source` the baseline, with its record and its verdict's line in the ledger.

        False if the baseline's program or record has changed since the verdict. All changes go into a write-ahead file
        first: after a crash, the next process completes them.
        """
        with self.lock():
            old = Program(self.source())
            if old.sha != verdict.baseline_sha:
                return False
            by = self.record(record.fingerprint, old)
            if by.scores[: len(verdict.baseline_scores)] != verdict.baseline_scores:
                return False
            past = PastPromotion(verdict.experiment, changed_lines(old.source, source), now())
            promotion = {
                "train.py": source,
                "baseline.json": self._with(record, past),
                "verdict": replace(verdict, status="keep").as_dict(),
            }
            try:
                write_atomically(self._promotion_path, json.dumps(promotion))
                self.ledger.log(replace(verdict, status="keep"))
            except (OSError, UsageError):
                self._promotion_path.unlink(missing_ok=True)  # no promotion without a line in the ledger
                raise
            try:
                self.complete_promotion()
            except OSError as error:
                why = f"{error.filename}: {error.strerror}"
                raise UsageError(f"{why}; the next session completes the promotion of {verdict.experiment}") from None
        return True

    def complete_promotion(self) -> None:
        """Finish the promotion in the write-ahead file, if there is one, and remove files that a kill has left."""
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
                return  # another process has finished the promotion
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{self._promotion_path}: not a promotion ({error!r}); delete it") from None
            if Program(unix(read_source(self.path, BASELINE_BYTES))).sha not in (verdict.baseline_sha, sha256(program)):
                raise UsageError(
                    f"{self.path}: changed since the promotion of {verdict.experiment} was cut short: "
                    f"put it back, or delete {self._promotion_path.name} beside it to give the promotion up"
                )
            self.ledger.log(verdict)
            write_atomically(self.path, program)
            write_atomically(self.record_path, records)
            self._promotion_path.unlink()

    # -- baseline.json --

    def _with(self, record: Record, promotion: PastPromotion | None = None, keeps_others: bool = False) -> str:
        """The text of `baseline.json` with this record and promotion.

        Drops the records of other programs, but keeps the best scores of each platform. A program that was changed by
        hand begins anew: it drops those of its platform, too.
        """
        known = self._read()
        same = [other for other in known.records if other.code_sha == record.code_sha]
        kept = [other for other in (known.records if keeps_others else same) if not _same_place(other, record)]
        best = dict(known.best)
        for other in known.records:
            platform = digest(other.fingerprint)
            if other not in (*same, *kept) and _above(other.scores, best.get(platform, [])) >= 0:
                best[platform] = other.scores
        if record.by_hand and not keeps_others:
            best.pop(digest(record.fingerprint), None)
        document = {
            "records": {digest([each.fingerprint, each.code_sha]): asdict(each) for each in (*kept, record)},
            "best": best,
            "promotions": [asdict(past) for past in [*known.promotions, *([promotion] if promotion else [])]],
        }
        text = json.dumps(document, indent=1)
        return _SHORT_LIST.sub(lambda found: re.sub(r"\n\s*", " ", found[0]), text) + "\n"

    def _read(self) -> "_Document":
        try:
            document: dict[str, Any] = json.loads(self.record_path.read_text(encoding="utf-8"))
            return check_types(
                _Document(
                    [Record.from_dict(stored) for stored in document["records"].values()],
                    [check_types(PastPromotion(**past)) for past in document.get("promotions", [])],
                    document.get("best", {}),
                )
            )
        except FileNotFoundError:
            return _Document([], [], {})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{self.record_path}: not a baseline record ({error!r}); "
                "restore it, or delete it and the baseline is recorded anew"
            ) from None


@dataclass(frozen=True)
class _Document:
    """What `baseline.json` holds. `best`: by platform, the lowest scores that a program had whose record is dropped."""

    records: list[Record]
    promotions: list[PastPromotion]
    best: dict[str, list[float]]


def _above(low: Sequence[float], high: Sequence[float]) -> float:
    """By how much the mean of `high` is above that of `low`, over the seeds that both have; 0 if there are none."""
    differences = [b - a for a, b in zip(low, high, strict=False)]
    return fmean(differences) if differences else 0.0


def _same_place(record: Record, other: Record) -> bool:
    return record.fingerprint == other.fingerprint and record.code_sha == other.code_sha


def _is_of(record: Record, program: Program) -> bool:
    """Whether a record is of this program. Compares the text, too: `code_sha` may differ between Pythons."""
    return record.program_sha == program.sha or record.code_sha == program.code_sha
