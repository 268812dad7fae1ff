"""Killed at any instruction, a session leaves nothing torn, lost or doubled: the next one finishes its work.

A session is repeated on copies of one small project, its runs by a fake executor, in children that are killed just
before (or in the middle of) each of their operations on files in turn, or at random moments.
"""

import functools
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeExecutor, Night
from kills import each_kill, eight_at_once, killed, start
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Record
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.baseline import Baseline
from pytest_autoresearch.judging.ledger import COLUMNS, IDENTITY, Ledger
from pytest_autoresearch.programs import experiment
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import Program

if not hasattr(os, "fork"):
    pytest.skip("kills forks of itself", allow_module_level=True)

IDEAS = {"best": [1.7], "good": [1.9], "worse": [2.3]}
ON_TOP_OF_BEST = {"good": [1.75]}


class Judged:
    """A project with four experiments, one of them broken; `session` does all that a session does, but train."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        project = TinyProject(folder, monkeypatch)
        project.track("seeds = 2", "seeds = 1")
        for name in IDEAS:
            project.idea(name)
        write(folder / "experiments/broken.py", "def train(run:\n")
        self.verdicts = self.session(folder, promote=False).verdicts
        self.record: Record = self.baseline(folder).record(self.fingerprint, Program(BASELINE))
        shutil.rmtree(folder / "results")
        for name in ("results.tsv", "baseline/cpu/baseline.json"):
            (folder / name).unlink()

    def session(self, folder: Path, **options: object) -> Night:
        """A whole session with canned results."""
        first = "# best #" not in (folder / "baseline/cpu/train.py").read_text()
        canned = {f"# {name} #": scores for name, scores in (IDEAS if first else ON_TOP_OF_BEST).items()}
        night = Night(folder, FakeExecutor(folder, [2.0], canned), **options)  # type: ignore[arg-type]
        self.fingerprint = night.session.context.fingerprint
        return night

    def copy(self, to: Path) -> None:
        """A copy as it was before any session, without the text, which is in the cache."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns("text", "__pycache__"))

    def baseline(self, folder: Path) -> Baseline:
        """The baseline as the next session finds it."""
        return Baseline(read_track(folder / "baseline/cpu"), Ledger(folder))

    def check_pair(self, folder: Path) -> None:
        """As the next reader finds them, `train.py` and `baseline.json` are of one program, old or new."""
        source = self.baseline(folder).source()
        scores = self.baseline(folder).record(self.fingerprint, Program(source)).scores
        if source == BASELINE:
            assert scores in ([], [2.0])
        else:
            assert Program(source).sha == self.verdicts["best"].program_sha
            assert scores == [1.7]

    def check_done(self, folder: Path) -> None:
        """All that a session does has been done, once."""
        self.check_pair(folder)
        assert sha256((folder / "baseline/cpu/train.py").read_text()) == self.verdicts["best"].program_sha
        rows = [(row["experiment"], row["status"], row["baseline_sha"]) for row in whole_rows(folder)]
        first, promoted = sha256(BASELINE), self.verdicts["best"].program_sha
        expected = {("baseline", "keep"), ("best", "keep"), ("good", "pass"), ("worse", "discard")}
        assert len(set(rows)) == len(rows)
        assert {row for row in rows if row[0] == "broken"}
        rest = {row for row in rows if row[0] != "broken"}
        rest -= {("best", "pass", first)}  # of a session that did not promote
        rest -= {("good", "discard", promoted)}  # of one that came after the promotion
        assert rest == {(name, status, first) for name, status in expected}
        saved = [json.loads(path.read_text()) for path in folder.glob("results/cpu/*/verdict-*.json")]
        assert all(verdict["status"] for verdict in saved)
        assert not [*folder.rglob("*.tmp"), *folder.rglob("promotion.json")]


def whole_rows(folder: Path) -> list[dict[str, str]]:
    """The track's lines in the ledger; each line there is whole."""
    head, *lines, end = (folder / "results.tsv").read_text().split("\n")
    assert head.split("\t") == COLUMNS
    assert end == ""
    rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
    return [row for row in rows if row["track"] == "cpu"]


def pytest_on(folder: Path, *options: str, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
    command = [*prefix, sys.executable, "-m", "pytest", "experiments", "-p", "no:cacheprovider", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Judged]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_CACHE", str(cache))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "160")
        yield Judged(tmp_path_factory.mktemp("judged") / "project", patch)


@pytest.fixture
def folder(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies of the project go, in memory if that can be; what takes time and no kill depends on is not done."""
    monkeypatch.setattr(Ledger, "commit", lambda self: "-")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    context = "pytest_autoresearch.judging.context.Context"
    monkeypatch.setattr(f"{context}.data_key", judged.fingerprint["data"])
    monkeypatch.setattr(f"{context}.prepare", lambda self, progress: None)
    for name in ("splice", "pieces_of"):
        monkeypatch.setattr(experiment, name, functools.cache(getattr(experiment, name)))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as there:
        yield Path(there) / "project"


# -- the tests --


def test_a_kill_at_any_change_to_a_file_loses_nothing(judged: Judged, folder: Path) -> None:
    kills = 0
    for _ in each_kill(lambda: judged.session(folder), lambda: judged.copy(folder)):
        kills += 1
        judged.check_pair(folder)
        judged.session(folder)
        judged.check_done(folder)
    judged.check_done(folder)
    assert kills > 100
    print(f"\n{kills} kills, one at each change to a file: 0 corrupted, 0 lost, 0 doubled")


@pytest.mark.parametrize("wanted", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_a_kill_at_any_time_loses_nothing(judged: Judged, folder: Path, wanted: int) -> None:
    """The next session may be killed, too, and the next."""
    judged.copy(folder)
    began = time.monotonic()
    assert not killed(start(lambda: judged.session(folder)))
    duration = time.monotonic() - began
    draw = random.Random(0)
    kills = 0
    while kills < wanted:
        judged.copy(folder)
        for _ in range(3):
            child = start(lambda: judged.session(folder))
            time.sleep(draw.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            kills += killed(child)
        judged.check_pair(folder)
        judged.session(folder)
        judged.check_done(folder)
    print(f"\n{kills} kills at random times: 0 corrupted, 0 lost, 0 doubled")


def test_a_kill_while_a_record_is_written(judged: Judged, folder: Path) -> None:
    before = replace(judged.record, recorded_at="2020-01-01T00:00:00+00:00")

    def record(record: Record) -> None:
        with judged.baseline(folder).lock():
            judged.baseline(folder).write_record(record)

    def prepared() -> None:
        judged.copy(folder)
        record(before)

    kills = 0
    for _ in each_kill(lambda: record(judged.record), prepared):
        kills += 1
        baseline = judged.baseline(folder)
        assert baseline.record(judged.fingerprint, Program(baseline.source())) in (before, judged.record)
        assert not list(folder.rglob("*.tmp"))
    assert kills >= 6
    print(f"\n{kills} kills while a record is written: 0 corrupted")


def test_files_that_cannot_grow_are_a_line_each_and_nothing_is_torn(judged: Judged, folder: Path) -> None:
    """As on a full disk, a write takes a part of its bytes and the next one fails."""
    other = "".join("\t".join(["x"] * len(COLUMNS)) + "\n" for _ in range(500))  # the longest file of them all, then
    length = len("\t".join(COLUMNS) + "\n" + other)
    sessions = [(limit, "") for limit in range(0, 8000, 400)]
    sessions += [(limit, other) for limit in range(length, length + 1500, 100)]
    troubled = 0
    for limit, before in sessions:
        judged.copy(folder)
        write(folder / "results.tsv", "\t".join(COLUMNS) + "\n" + before)

        def session(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                said = list(judged.session(folder).summary.notes)
            except Exception as error:
                said = [str(error)]
            assert all("File too large" in text and "\n" not in text for text in said), said
            os._exit(0 if not said else 3)

        status = os.waitstatus_to_exitcode(os.waitpid(start(session), 0)[1])
        assert status in (0, 3), f"limit {limit}"
        troubled += status == 3
        whole_rows(folder)
        judged.check_pair(folder)
        judged.session(folder)
        judged.check_done(folder)
    assert 10 < troubled < len(sessions)
    print(f"\n{troubled} of {len(sessions)} sessions without room: 0 corrupted, 0 lost, 0 doubled")


def test_what_nobody_will_replay_is_logged_by_whoever_comes(judged: Judged, folder: Path) -> None:
    """A session was killed before it logged its verdicts, and then the baseline was changed, and accepted."""
    judged.copy(folder)
    judged.session(folder, finish=False)
    (folder / "results.tsv").unlink()
    for path in folder.glob("results/cpu/*/verdict-*.json"):
        path.write_text(re.sub(r'"status": "\w*"', '"status": ""', path.read_text()))
    write(folder / "results/cpu/best-0000000/.verdict-1.json.tmp", "{")
    moved = BASELINE.replace("WIDTH = 16", "WIDTH = 17")
    write(folder / "baseline/cpu/train.py", moved)
    night = judged.session(folder, record=True, promote=False)
    assert {name for name, _ in night.trained} == {"baseline", "best", "good"}  # what was kept is tried again
    rows = [(row["experiment"], row["status"]) for row in whole_rows(folder) if row["baseline_sha"] == sha256(BASELINE)]
    assert sorted(rows) == [("best", "pass"), ("broken", "crash"), ("good", "pass"), ("worse", "discard")]
    assert not list(folder.rglob("*.tmp"))


def test_many_processes_log_the_same_verdicts(judged: Judged, folder: Path) -> None:
    verdicts = [replace(judged.verdicts["worse"], experiment=f"worse {number}") for number in range(20)]
    folder.mkdir()
    eight_at_once(lambda: [Ledger(folder).log(verdict) for verdict in verdicts])
    assert sorted(row["experiment"] for row in whole_rows(folder)) == sorted(v.experiment for v in verdicts)


def test_eight_sessions_at_once_share_the_work(judged: Judged, folder: Path) -> None:
    def session() -> None:
        with suppress(UsageError):  # "another session has changed it meanwhile; start again"
            judged.session(folder)

    judged.copy(folder)
    eight_at_once(session)
    eight_at_once(session)
    judged.check_done(folder)


def test_what_was_kept_against_an_earlier_baseline_is_tried_again(judged: Judged, folder: Path) -> None:
    judged.copy(folder)
    night = judged.session(folder, finish=False)
    moved = BASELINE.replace("WIDTH = 16", "WIDTH = 17")
    write(folder / "baseline/cpu/train.py", moved)
    night.session.log.finish(promote=True)
    assert night.session.log.summary().notes == [
        "nothing promoted: best was kept against an earlier baseline: baseline/cpu/train.py or its record has changed "
        "meanwhile; the next session tries it again"
    ]
    assert {(row["experiment"], row["status"]) for row in whole_rows(folder)} >= {("best", "pass"), ("good", "pass")}
    again = judged.session(folder, record=True, promote=False)
    assert {name for name, _ in again.trained} == {"baseline", "best", "good"}


@pytest.mark.skipif(os.system("unshare --mount true 2>&-") != 0, reason="may not mount")
@pytest.mark.parametrize("place", ["results", "results.tsv", "baseline/cpu", "."])
def test_what_is_read_only_is_one_line(judged: Judged, folder: Path, place: str) -> None:
    """Real sessions, which replay the verdicts of a fake one."""
    judged.copy(folder)
    judged.session(folder, promote=False)
    shutil.copytree(judged.folder / "text", folder / "text")
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    prefix = ["unshare", "--mount", "sh", "-c", f'{mount} && cd . && exec "$@"', "sh"]
    result = pytest_on(folder, "--ar-sandbox", "off", prefix=prefix).communicate()[0]
    lines = [line for line in result.splitlines() if re.search("Read-only|cannot be written", line)]
    assert len(lines) == 1, result
    assert "promoted best" not in result
    assert "INTERNALERROR" not in result
    assert "Traceback" not in result
    judged.check_pair(folder)
    judged.session(folder)
    judged.check_done(folder)


@pytest.mark.slow
def test_eight_real_sessions_at_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the work, and of those that have kept the same baseline's better one promotes."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    project = TinyProject(tmp_path, monkeypatch)
    project.track("seeds = 2", "seeds = 1")
    project.experiment("best", "LEARNING_RATE = 0.05")
    project.experiment("wider", "WIDTH = WIDTH * 4")
    project.experiment("worse", "LEARNING_RATE = LEARNING_RATE / 10")
    for number in (8, 3):  # the later ones find a moved baseline, and try again what was kept
        outputs = [session.communicate()[0] for session in [pytest_on(tmp_path) for _ in range(number)]]
        for output in outputs:
            assert re.search(r"^=+ .*(passed|failed|skipped).* in \S+s", output, re.MULTILINE), output
            assert "INTERNALERROR" not in output
            assert "Traceback" not in output
        assert len(re.findall("^promoted ", "\n".join(outputs), re.MULTILINE)) == 1
    rows = whole_rows(tmp_path)
    names = [(*(row[name] for name in IDENTITY), row["status"]) for row in rows]
    assert len(set(names)) == len(names)
    saved = [json.loads(path.read_text()) for path in tmp_path.glob("results/cpu/*/verdict-*.json")]
    assert sorted({name[:-1] for name in names if name[1] != "baseline"}) == sorted(
        tuple(verdict[name] for name in IDENTITY) for verdict in saved
    )
    first, *promotions = [row for row in rows if row["status"] == "keep"]
    assert first["experiment"] == "baseline"
    assert len(promotions) == 2
    for before, after in itertools.pairwise([first, *promotions]):
        assert after["baseline_sha"] == before["program_sha"]
    assert not [*tmp_path.rglob("*.tmp"), *tmp_path.rglob("promotion.json")]
