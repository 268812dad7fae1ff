"""Killed at any instruction, a session leaves nothing torn, lost or doubled: the next one finishes its work.

A session's end is repeated on copies of one small project, its verdicts from a real run, in children that are killed
just before (or in the middle of) each of their operations on files in turn, or at random moments.
"""

import builtins
import functools
import hashlib
import io
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
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.data import tokenizer
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.data.tokenizer import Tokenizer
from pytest_autoresearch.judging.baseline import Baseline, Record
from pytest_autoresearch.judging.ledger import COLUMNS, IDENTITY, Ledger, Verdict
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.judging.session import NotJudged, Session
from pytest_autoresearch.programs import experiment
from pytest_autoresearch.programs.compare import sha256

if not hasattr(os, "fork"):
    pytest.skip("kills forks of itself", allow_module_level=True)

# -- kills --


def arm(left: int) -> None:
    """From now on this process is killed just before its `left`-th change to a file; a write has two halves."""

    def point() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if changes:
            point()

    class File(io.FileIO):
        def write(self, data):  # type: ignore[no-untyped-def]
            data = bytes(data)
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                point()
                assert super().write(half) == len(half)
            return len(data)

        def truncate(self, size=None):  # type: ignore[no-untyped-def]
            point()
            return super().truncate(size)

    def opened(path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):  # type: ignore[no-untyped-def]
        if not set(mode) & set("wax"):
            return real_open(path, mode, buffering, encoding, errors, newline, closefd, opener)
        file = File(path, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return file
        buffered = io.BufferedWriter(file)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    real_open = io.open
    io.open = builtins.open = opened
    os.fsync = lambda descriptor: point()  # a kill, unlike a power cut, needs no fsync
    sys.addaudithook(audit)


def start(action: Callable[[], object]) -> int:
    """Do it in a child; the process id."""
    if child := os.fork():
        return child
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def killed(child: int) -> bool:
    """Await a child: whether it was killed. It may not fail in any other way."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def eight_at_once(action: Callable[[], object]) -> None:
    """Do it in eight children that begin together."""
    reading, writing = os.pipe()

    def wait() -> None:
        os.close(writing)
        os.read(reading, 1)  # ends when the parent has closed its side
        action()

    children = [start(wait) for _ in range(8)]
    os.close(writing)
    os.close(reading)
    assert [killed(child) for child in children] == [False] * 8


def each_kill(action: Callable[[], object], before: Callable[[], object]) -> Iterator[int]:
    """Do it again and again, killed one change to a file later each time, until it is done."""
    for operation in range(10_000):
        before()

        def armed(operation: int = operation) -> None:
            arm(operation)
            action()

        if not killed(start(armed)):
            return
        yield operation


# -- one project, judged by a real run --


class Judged:
    """A project whose every run has been done; `copy` is as it was before, but for the evidence of these runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = tiny(folder)
        project.experiment("best", "LEARNING_RATE = 0.05")
        project.experiment("good", "LEARNING_RATE = LEARNING_RATE * 10")
        project.experiment("worse", "LEARNING_RATE = LEARNING_RATE / 10")
        write(folder / "experiments/broken.py", "def train(run:\n")
        result = pytest_on(folder, "--ar-no-promote").communicate()[0]
        assert "2 failed, 2 passed" in result, result
        self.verdicts = {}
        for path in folder.glob("results/cpu/*/verdict-*.json"):
            verdict = replace(Verdict.from_dict(json.loads(path.read_text())), status="")
            self.verdicts[verdict.experiment] = verdict
            path.unlink()
        (record,) = json.loads((folder / "baseline/cpu/baseline.json").read_text())["records"].values()
        self.record = Record(**record)
        assert set(self.verdicts) == {"best", "good", "worse", "broken"}
        (folder / "results.tsv").unlink()
        (folder / "baseline/cpu/baseline.json").unlink()

    def copy(self, to: Path) -> None:
        shutil.rmtree(to, ignore_errors=True)
        ignored = shutil.ignore_patterns("text", "__pycache__", ".locks", "log.txt", "result.json")
        shutil.copytree(self.folder, to, ignore=ignored)

    def session(
        self, folder: Path, before_end: Callable[[], object] = lambda: None
    ) -> tuple[Session, list[str], list[str]]:
        """A whole session, but that what it would train has been trained. Also what failed and what it had to judge."""
        verdicts, failures, tried = self.verdicts, [], []

        class Rehearsed(Session):
            def _judge(self, experiment, program, *others):  # type: ignore[no-untyped-def]
                verdict = verdicts[experiment.name]
                tried.append(experiment.name)
                if verdict.program_sha != program.sha:
                    raise NotJudged("trains on the new baseline")
                return verdict

        session = Rehearsed(Project(folder, folder / "experiments", folder / "baseline"), Options())
        for path in sorted((folder / "experiments").iterdir()):
            try:
                if not session.stored_record().scores and session.baseline_source == BASELINE:
                    with session.baseline.lock():
                        session.baseline.write_record(self.record)
                try:
                    verdict = session.judge(session.read(path), None, None)
                except NotJudged:
                    continue
                except UsageError as error:
                    verdict = session.broken(path, error)
            except OSError as error:
                failures.append(f"{error.filename}: {error.strerror}")
                continue
            session.take(verdict)
        before_end()
        session.finish(promote=True)
        return session, failures, tried

    def check_pair(self, folder: Path) -> None:
        """As the next reader finds them, `train.py` and `baseline.json` are of one program, old or new."""
        best = self.verdicts["best"]
        promoted = (folder / "results" / "cpu" / f"best-{best.program_sha[:7]}" / "seed-0/program.py").read_text()
        baseline = Session(Project(folder, folder / "experiments", folder / "baseline"), Options()).baseline
        source = baseline.source()
        scores = baseline.record(self.record.fingerprint, source).scores
        assert (source, scores) in ((BASELINE, []), (BASELINE, self.record.scores), (promoted, best.scores))

    def check_done(self, folder: Path) -> None:
        """All that a session does has been done, once."""
        self.check_pair(folder)
        assert sha256((folder / "baseline/cpu/train.py").read_text()) == self.verdicts["best"].program_sha
        assert sorted((row["experiment"], row["status"]) for row in whole_rows(folder)) == [
            ("baseline", "keep"),
            ("best", "keep"),
            ("broken", "crash"),
            ("good", "pass"),
            ("worse", "discard"),
        ]
        assert {v.experiment: v.status for v in Ledger(folder)._read(folder.glob("results/cpu/*/verdict-*.json"))} == {
            "best": "keep",
            "broken": "crash",
            "good": "pass",
            "worse": "discard",
        }
        assert not [*folder.rglob("*.tmp"), *folder.rglob("promotion.json")]


def tiny(folder: Path) -> TinyProject:
    """One whose runs are over at once, and a single seed decides."""
    project = TinyProject(SimpleNamespace(path=folder))  # type: ignore[arg-type]
    project.track("seeds = 2", "seeds = 1")
    return project


def pytest_on(folder: Path, *options: str, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
    command = [*prefix, sys.executable, "-m", "pytest", "experiments", "-p", "no:cacheprovider", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def whole_rows(folder: Path) -> list[dict[str, str]]:
    """The track's lines in the ledger; each line there is whole."""
    head, *lines, end = (folder / "results.tsv").read_text().split("\n")
    assert head.split("\t") == COLUMNS
    assert end == ""
    rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
    return [row for row in rows if row["track"] == "cpu"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Judged]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_CACHE", str(cache))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "160")
        yield Judged(tmp_path_factory.mktemp("judged") / "project")


@pytest.fixture
def folder(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies of the project go, in memory if that can be; what takes time and no kill depends on is not done."""
    monkeypatch.setattr(Ledger, "commit", lambda self: "-")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("pytest_autoresearch.data.prepare.data_key", lambda *_, **__: judged.record.fingerprint["data"])
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


def test_a_kill_at_any_time_loses_nothing(judged: Judged, folder: Path) -> None:
    """The next session may be killed, too, and the next."""
    judged.copy(folder)
    began = time.monotonic()
    assert not killed(start(lambda: judged.session(folder)))
    duration = time.monotonic() - began
    draw = random.Random(0)
    kills = 0
    while kills < 60:
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
    before = replace(judged.record, scores=[9.0])

    def baseline() -> Baseline:
        return Session(Project(folder, folder / "experiments", folder / "baseline"), Options()).baseline

    def record(record: Record) -> None:
        with baseline().lock():
            baseline().write_record(record)

    def prepared() -> None:
        judged.copy(folder)
        record(before)

    kills = 0
    for _ in each_kill(lambda: record(judged.record), prepared):
        kills += 1
        assert baseline().record(judged.record.fingerprint, baseline().source()) in (before, judged.record)
        assert not list(folder.rglob("*.tmp"))
    assert kills >= 6
    print(f"\n{kills} kills while a record is written: 0 corrupted")


def test_a_kill_while_the_data_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path)
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    settings = {"root": tmp_path, "vocab_size": 300, "sequence_length": 16, "eval_tokens": 512}

    def state() -> dict[str, str]:
        files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]
        assert all(".building" not in str(path) for path in files)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name != "meta.json"}

    prepared = prepare("text", **settings)
    whole = state()
    trained = Tokenizer.load(prepared.tokenizer_path)  # its training has threads of its own, which no fork survives
    monkeypatch.setattr(tokenizer, "train_tokenizer", lambda texts, size: trained)
    assert len(whole) == 3
    kills = 0
    for _ in each_kill(lambda: prepare("text", **settings), lambda: shutil.rmtree(tmp_path / "cache")):
        kills += 1
        prepare("text", **settings)
        assert state() == whole
    assert kills > 10
    print(f"\n{kills} kills while data is prepared: 0 corrupted")


def test_files_that_cannot_grow_are_a_line_each_and_nothing_is_torn(judged: Judged, folder: Path) -> None:
    """As on a full disk, a write takes a part of its bytes and the next one fails."""
    line = re.compile(r"\S+/(results\.tsv|verdict-\w+\.json|train\.py|(baseline|promotion)\.json): File too large")
    other = "".join("\t".join(["x"] * len(COLUMNS)) + "\n" for _ in range(500))  # the longest file of them all, then
    length = len("\t".join(COLUMNS) + "\n" + other)
    sessions = [(limit, "") for limit in range(0, 8000, 250)]
    sessions += [(limit, other) for limit in range(length, length + 1500, 50)]
    troubled = 0
    for limit, before in sessions:
        judged.copy(folder)
        write(folder / "results.tsv", "\t".join(COLUMNS) + "\n" + before)

        def session(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            session, failures, _ = judged.session(folder)
            said = [f"{folder}/{note}" for note in session.notes] + failures
            assert all(line.match(text) and "\n" not in text for text in said), said
            os._exit(0 if not said else 3)

        status = os.waitstatus_to_exitcode(os.waitpid(start(session), 0)[1])
        assert status in (0, 3), f"limit {limit}"
        troubled += status == 3
        whole_rows(folder)
        judged.check_pair(folder)
        judged.session(folder)
        judged.check_done(folder)
    assert 20 < troubled < len(sessions)
    print(f"\n{troubled} of {len(sessions)} sessions without room: 0 corrupted, 0 lost, 0 doubled")


def test_what_nobody_will_replay_is_logged_by_whoever_comes(judged: Judged, folder: Path) -> None:
    """A session was killed before it logged its verdicts, and then the baseline was changed."""
    judged.copy(folder)
    for name in ("best", "good", "worse"):
        Ledger(folder).save(judged.verdicts[name])
    write(folder / "results/cpu/best-0000000/.verdict-1.json.tmp", "{")
    moved = BASELINE + "# by hand\n"
    write(folder / "baseline/cpu/train.py", moved)
    session, _, tried = judged.session(folder)
    assert tried == ["best", "good"]  # what was kept is tried again
    assert not (folder / "results.tsv").exists()  # its first line is that of a baseline, and that is not recorded yet
    with session.baseline.lock():
        session.baseline.write_record(replace(judged.record, program_sha=sha256(moved)))
    eight_at_once(lambda: judged.session(folder))
    first, *others = [(row["experiment"], row["status"]) for row in whole_rows(folder)]
    assert first == ("baseline", "keep")
    assert sorted(others) == [("best", "pass"), ("broken", "crash"), ("good", "pass"), ("worse", "discard")]
    assert not list(folder.rglob("*.tmp"))


def test_many_processes_log_the_same_verdicts(judged: Judged, folder: Path) -> None:
    verdicts = [replace(judged.verdicts["worse"], experiment=f"worse {number}") for number in range(20)]
    folder.mkdir()
    eight_at_once(lambda: [Ledger(folder).log(verdict) for verdict in verdicts])
    assert sorted(row["experiment"] for row in whole_rows(folder)) == sorted(v.experiment for v in verdicts)


def test_what_was_kept_against_an_earlier_baseline_is_tried_again(judged: Judged, folder: Path) -> None:
    judged.copy(folder)
    moved = BASELINE + "# by hand\n"
    session, _, _ = judged.session(folder, lambda: write(folder / "baseline/cpu/train.py", moved))
    assert session.notes == [
        "nothing promoted: best was kept against an earlier baseline, for baseline/cpu/train.py has changed meanwhile; "
        "the next session tries it again by itself"
    ]
    assert {(row["experiment"], row["status"]) for row in whole_rows(folder)} >= {("best", "pass"), ("good", "pass")}
    assert judged.session(folder)[2] == ["best", "good"]


@pytest.mark.skipif(os.system("unshare --mount true 2>&-") != 0, reason="may not mount")
@pytest.mark.parametrize("place", ["results", "results.tsv", "baseline/cpu"])
def test_what_is_read_only_is_one_line(judged: Judged, folder: Path, place: str) -> None:
    judged.copy(folder)
    (folder / "text").symlink_to(judged.folder / "text")
    for name in ("best", "good", "worse"):
        Ledger(folder).save(judged.verdicts[name])
    Ledger(folder).path.touch()
    Baseline(read_track(folder / "baseline/cpu"), Ledger(folder)).write_record(judged.record)
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    result = pytest_on(folder, prefix=["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]).communicate()[
        0
    ]
    assert re.search(rf"{place}(/\S+)?: Read-only file system$", result, re.MULTILINE), result
    assert "promoted best" not in result
    assert "INTERNALERROR" not in result
    assert "Traceback" not in result
    assert "broken.py:1: " in result
    judged.check_pair(folder)
    judged.session(folder)
    judged.check_done(folder)


def test_eight_sessions_at_once(judged: Judged, tmp_path: Path) -> None:
    """They share the work, and of those that have kept the same baseline's better one promotes."""
    project = tiny(tmp_path)
    project.experiment("best", "LEARNING_RATE = 0.05")
    project.experiment("wider", "WIDTH = WIDTH * 4")
    project.experiment("worse", "LEARNING_RATE = LEARNING_RATE / 10")
    for number in (8, 3):  # the later ones find a moved baseline, and try again what was kept
        began = time.monotonic()
        sessions = [pytest_on(tmp_path) for _ in range(number)]
        outputs = [session.communicate()[0] for session in sessions]
        print(f"\n{number} sessions at once: {time.monotonic() - began:.0f} s")
        for output in outputs:
            assert re.search(r"^=+ .*(passed|failed|skipped).* in \S+s", output, re.MULTILINE), output
            assert "INTERNALERROR" not in output
            assert "Traceback" not in output
        assert len(re.findall("^promoted ", "\n".join(outputs), re.MULTILINE)) == 1
    rows = whole_rows(tmp_path)
    names = [(*(row[name] for name in IDENTITY), row["status"]) for row in rows]
    assert len(set(names)) == len(names)
    saved = [json.loads(path.read_text()) for path in tmp_path.glob("results/cpu/*/verdict-*.json")]
    assert sorted(name[:-1] for name in names if name[1] != "baseline") == sorted(
        tuple(verdict[name] for name in IDENTITY) for verdict in saved
    )
    first, *promotions = [row for row in rows if row["status"] == "keep"]
    assert first["experiment"] == "baseline"
    assert len(promotions) == 2
    for before, after in itertools.pairwise([first, *promotions]):
        assert after["baseline_sha"] == before["program_sha"]
    (record,) = json.loads((tmp_path / "baseline/cpu/baseline.json").read_text())["records"].values()
    program = (tmp_path / "baseline/cpu/train.py").read_text()
    assert sha256(program) == record["program_sha"] == promotions[-1]["program_sha"]
    assert not [*tmp_path.rglob("*.tmp"), *tmp_path.rglob("promotion.json")]
    print(f"{len(saved)} verdicts: 0 lost, 0 doubled; {len(promotions)} promotions, one from each baseline")
