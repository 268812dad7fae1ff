"""What waits is what a session would judge, promote or log; a claim is one process's; an idle look reads nothing."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeExecutor
from kills import killed, start
from tiny_project import TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop.queue import OFFERED, Queue, Waiting

OPENED: list[str] = []
"""The files that were opened while the fixture `opened` was in use."""


def context_of(project: TinyProject, executor: FakeExecutor, **options: object) -> Context:
    folders = Project(project.path, project.path / "experiments", project.path / "baseline")
    return Context(folders, Options(track="cpu", **options), executor)  # type: ignore[arg-type]


def queue_of(project: TinyProject, executor: FakeExecutor, **options: object) -> Queue:
    return Queue(context_of(project, executor, **options))


def names(waiting: list[Waiting]) -> list[str]:
    return [each.name for each in waiting]


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    """Scores by name; the baseline is not recorded yet."""
    scores = {"winner": [1.9, 1.92], "outrun": [1.94, 1.96], "kept": [1.8, 1.82], "better": [1.7, 1.72]}
    return project.fake(**scores, earlier=[2.3], judged=[2.3], new=[2.4], deep=[2.4])


@pytest.fixture
def every_kind(project: TinyProject, fake: FakeExecutor) -> TinyProject:
    """A project with a file of each kind: winner is promoted, kept was killed before its promotion."""
    outrun = project.idea("outrun")
    project.idea("winner")
    project.idea("earlier")
    project.night(fake)
    outrun = outrun.rename(project.path / "outrun.py")  # else the next session would try it again
    judged = project.idea("judged")
    project.idea("kept")
    project.experiment("broken", "WIDTH = (")
    project.night(fake, finish=False)
    outrun.rename(project.path / "experiments/outrun.py")

    write(project.path / "experiments/replayed.py", judged.read_text().replace('"""judged."""', '"""Another."""'))
    project.experiment("broken_new", "NO_SUCH_NAME = 1")
    project.experiment("elsewhere", 'TRACK = "cuda"\nWIDTH = 3')
    project.experiment("sweep", 'SEARCH_SPACE = {"WIDTH": [3, 4]}\nBATCH_SIZE = 4')
    project.experiment("unchanged", "BATCH_SIZE = 8  # as it is")
    project.idea("new")
    project.idea("folder/deep", body="# deep #")
    for name in ("_helper", "conftest", ".hidden/one", "build/two", "folder/__pycache__/three"):
        project.experiment(name, "BATCH_SIZE = 4" if name != "conftest" else "def train(run): pass")
    return project


def test_what_waits_is_what_a_session_has_to_do(every_kind: TinyProject, fake: FakeExecutor) -> None:
    queue = queue_of(every_kind, fake)
    waiting = queue.waiting()
    assert {each.name: each.why for each in waiting} == {
        "kept": "kept, to be promoted",
        "broken_new": "new",
        "new": "new",
        "folder/deep": "new",
        "outrun": "kept and outrun",
    }
    for _ in range(2):  # the second session has nothing to do
        before = len(every_kind.rows)
        every_kind.run("-p", "no:xdist")
        assert sorted(row["experiment"] for row in every_kind.rows[before:]) == sorted(names(waiting))
        waiting = queue.waiting()
        assert waiting == queue_of(every_kind, fake).waiting(), "what it remembers is what it would find"
    assert waiting == []


def test_without_a_record_everything_waits(project: TinyProject, fake: FakeExecutor) -> None:
    for name in ("new", "judged"):
        project.idea(name)
    project.experiment("broken", "WIDTH = (")
    project.experiment("elsewhere", 'TRACK = "cuda"\nWIDTH = 3')
    assert sorted(names(queue_of(project, fake).waiting())) == ["broken", "judged", "new"]


def test_a_verdict_without_its_line_waits_for_the_line(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("judged")
    night = project.night(fake)
    assert queue_of(project, fake).waiting() == []
    evidence, verdict = night.session.context.evidence, night.verdicts["judged"]
    evidence.save(verdict)  # as it was before its line was written
    assert names(queue_of(project, fake).waiting()) == ["judged"]


def test_what_is_not_to_be_promoted_does_not_wait(every_kind: TinyProject, fake: FakeExecutor) -> None:
    every_kind.night(fake, promote=False)
    assert names(queue_of(every_kind, fake).waiting()) == ["kept"]
    assert queue_of(every_kind, fake, promote=False).waiting() == []
    assert names(queue_of(every_kind, fake, promote=False, retest=True).waiting()) == ["earlier"]


def test_promotions_come_first_and_outrun_ones_last_each_the_oldest_first(
    every_kind: TinyProject, fake: FakeExecutor
) -> None:
    ages = {"outrun": 1, "new": 2, "broken_new": 3, "folder/deep": 3, "kept": 9}
    for name, time in ages.items():
        os.utime(every_kind.path / f"experiments/{name}.py", (time, time))
    waiting = queue_of(every_kind, fake).waiting()
    assert names(waiting) == ["kept", "new", "broken_new", "folder/deep", "outrun"]


def test_it_follows_files_verdicts_and_the_baseline(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("earlier")
    project.night(fake)
    path = project.idea("judged")
    queue = queue_of(project, fake)
    assert names(queue.waiting()) == ["judged"]
    project.night(fake)  # its verdict is known by the ledger's change
    assert queue.waiting() == []
    path.write_text(path.read_text().replace("WIDTH =", "BATCH_SIZE ="))
    assert names(queue.waiting()) == ["judged"]
    path.unlink()
    project.idea("winner")
    project.idea("outrun")
    assert sorted(names(queue.waiting())) == ["outrun", "winner"]
    project.night(fake)
    assert [(each.name, each.why) for each in queue.waiting()] == [("outrun", "kept and outrun")]


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files that are opened, but for locks."""

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and active and "/.locks/" not in str(arguments[0]):
            OPENED.append(str(arguments[0]))

    active = [True]
    sys.addaudithook(audit)
    yield OPENED
    active.clear()


def test_an_idle_look_at_a_thousand_files_reads_none(
    project: TinyProject, fake: FakeExecutor, opened: list[str]
) -> None:
    for number in range(1000):
        write(project.path / f"experiments/e{number}.py", f'from baseline import *\nTRACK = "cuda"\nWIDTH = {number}\n')
    project.idea("judged")
    queue = queue_of(project, fake)
    assert names(queue.waiting()) == ["judged"]
    assert len([path for path in opened if path.endswith(".py")]) >= 1001
    opened.clear()
    assert names(queue.waiting()) == ["judged"]
    assert opened == []
    project.idea("new")
    assert names(queue.waiting()) == ["judged", "new"]
    assert {Path(path).name for path in opened if "/experiments/" in path} == {"new.py"}


def test_a_claim_is_one_loop_s_until_it_is_released(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("new")
    project.idea("judged")
    mine, theirs = queue_of(project, fake), queue_of(project, fake)
    first, second = mine.waiting()
    claim = mine.claim(first)
    assert claim
    assert mine.waiting() == theirs.waiting() == [second]
    assert theirs.claim(first) is None
    assert mine.claim(first) is None
    claim.release()
    assert mine.waiting() == theirs.waiting() == [first, second]
    again = theirs.claim(first)
    assert again
    again.release()


def test_what_others_have_judged_or_removed_meanwhile_is_not_claimed(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("judged")
    gone = project.idea("new")
    queue = queue_of(project, fake)
    waiting = {each.name: each for each in queue.waiting()}
    gone.unlink()
    project.night(fake)
    assert queue.claim(waiting["judged"]) is None
    assert queue.claim(waiting["new"]) is None


def test_a_claim_ends_with_its_process(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("new")
    queue = queue_of(project, fake)
    [waiting] = queue.waiting()

    def die_with_it() -> None:
        claim = queue_of(project, fake).claim(waiting)
        os.kill(os.getpid(), 9) if claim else None

    assert killed(start(die_with_it))
    assert queue.claim(waiting)


def test_a_file_is_not_offered_for_ever(project: TinyProject, fake: FakeExecutor) -> None:
    path = project.idea("new")
    queue = queue_of(project, fake)
    for _ in range(OFFERED):
        [waiting] = queue.waiting()
        claim = queue.claim(waiting)
        assert claim
        claim.release()  # and there is no verdict
    assert queue.waiting() == []
    path.write_text(path.read_text() + "# another try\n")
    assert names(queue.waiting()) == ["new"]


def test_a_track_or_baseline_that_cannot_be_read_is_one_line(project: TinyProject, fake: FakeExecutor) -> None:
    project.idea("new")
    queue = queue_of(project, fake)
    queue.waiting()
    (project.path / "baseline/cpu/train.py").unlink()
    with pytest.raises(UsageError, match=r"train\.py"):
        queue.waiting()
