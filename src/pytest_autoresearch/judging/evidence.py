"""`results/`, the evidence: program, log and scores of every run, and the verdicts to replay."""

import glob
import json
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.programs.experiment import Program


class Evidence:
    """The folder `results/` below `root`: `results/<track>/<experiment>-<sha>/seed-<n>/`, and beside the seeds a file
    for each verdict."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "results"

    def of(self, track: str, experiment: str, program_sha: str) -> Path:
        """The folder of a program's runs."""
        return self.folder / track / f"{file_name(experiment)}-{program_sha[:7]}"

    def journal(self, track: str, sweep: str) -> Path:
        """The file of a sweep's studies."""
        return self.folder / track / f"{file_name(sweep)}.journal"

    def lock(self, name: str) -> FileLock:
        """A lock in this folder. A session that judges a program locks its key: a second session waits, and then finds
        the verdict."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / digest(name))

    def save(self, verdict: Verdict) -> None:
        """Keep a verdict beside its runs."""
        folder = self.root / verdict.evidence
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(replace(verdict, replayed=False, same_as="", note="").as_dict(), indent=1) + "\n"
        with self.lock("verdicts"):
            write_atomically(folder / f"verdict-{verdict.key}.json", text)

    def find(self, track: str, key: str) -> list[Verdict]:
        """The verdicts with this key, from whichever experiments; the latest first."""
        return self._read((self.folder / track).glob(f"*/verdict-{glob.escape(key)}.json"))[::-1]

    def program(self, verdict: Verdict, seed: int = 0) -> Program | None:
        """The program that was judged, as it ran with this seed; None if it is no longer there."""
        return self._program(self.root / verdict.evidence, verdict.program_sha, seed)

    def program_of(self, track: str, experiment: str, program_sha: str) -> Program | None:
        """The program of an experiment that has this hash; None if it is no longer there."""
        return self._program(self.of(track, experiment, program_sha), program_sha)

    @staticmethod
    def _program(folder: Path, program_sha: str, seed: int = 0) -> Program | None:
        try:
            path = folder / f"seed-{seed}" / "program.py"
            program = Program(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return None
        return program if program.sha == program_sha else None

    def verdicts(self, track: str, experiment: str) -> list[Verdict]:
        """Every verdict on an experiment, oldest first."""
        folder = self.of(track, experiment, "")
        paths = folder.parent.glob(f"{glob.escape(folder.name)}???????/verdict-*.json")
        return [verdict for verdict in self._read(paths) if verdict.experiment == experiment]

    def of_program(self, track: str, experiment: str, program_sha: str) -> list[Verdict]:
        """The verdicts on one program of an experiment, oldest first."""
        verdicts = self._read(self.of(track, experiment, program_sha).glob("verdict-*.json"))
        return [verdict for verdict in verdicts if verdict.program_sha == program_sha]

    def unlogged(self, track: str) -> list[Verdict]:
        """Every verdict of a track without a line in the ledger, oldest first. Its session still runs or was killed."""
        folder = self.folder / track
        if leftovers := list(folder.glob("*/.verdict-*.tmp")):
            with self.lock("verdicts"):  # now no other process writes them, so they are left from a kill
                for path in leftovers:
                    path.unlink(missing_ok=True)
        return [verdict for verdict in self._read(folder.glob("*/verdict-*.json")) if not verdict.status]

    def source(self, program_sha: str) -> str | None:
        """The source of a program that was trained here, found by its hash."""
        for path in sorted(self.folder.glob(f"*/*-{program_sha[:7]}/seed-*/program.py")):
            source = path.read_text(encoding="utf-8", errors="replace")
            if Program(source).sha == program_sha:
                return source
        return None

    def row_nats(self, track: str, program_sha: str, seed: int) -> list[float] | None:
        """The nats of each held-out row in a program's run with this seed; None if the evidence of it is not here."""
        return self._numbers("row_nats", track, program_sha, seed)

    def curve(self, track: str, program_sha: str, seed: int) -> list[float | None] | None:
        """The mean training loss in each hundredth of the budget of a run; None if the evidence of it is not here."""
        return self._numbers("curve", track, program_sha, seed)

    def _numbers(self, name: str, track: str, program_sha: str, seed: int) -> list[Any] | None:
        """A list in the result of a program's run: numbers, and None for gaps."""
        for path in sorted((self.folder / track).glob(f"*-{program_sha[:7]}/seed-{seed}/result.json")):
            try:
                source = path.with_name("program.py").read_text(encoding="utf-8")
                numbers = json.loads(path.read_text(encoding="utf-8"))[name]
                if numbers and Program(source).sha == program_sha:
                    return [None if each is None else float(each) for each in numbers]
            except (OSError, ValueError, TypeError, KeyError):
                continue  # users may delete or break evidence
        return None

    def _read(self, paths: Iterable[Path]) -> list[Verdict]:
        found = []
        for path in paths:
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                verdict = Verdict.from_dict(json.loads(path.read_text(encoding="utf-8")))
                if (self.root / verdict.evidence, f"verdict-{verdict.key}.json") == (path.parent, path.name):
                    found.append(verdict)
            except (OSError, ValueError, TypeError, KeyError):
                continue  # users may delete or break evidence; then the experiment runs again
        return sorted(found, key=lambda verdict: verdict.finished_at)


def file_name(experiment: str) -> str:
    """An experiment's name with `+` for `/`, because all folders have the same parent."""
    return experiment.replace("%", "%25").replace("+", "%2B").replace("\\", "%5C").replace("/", "+")
