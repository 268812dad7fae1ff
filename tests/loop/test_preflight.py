"""What is not worth a run is refused in one line for its author, with paths as in the author's folder."""

from pathlib import Path

import pytest
from fakes import FakeExecutor
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import preflight

OVERLAY = "from baseline import *\n"


class Author:
    """Writes files into a scratch folder, and has them checked."""

    def __init__(self, project: TinyProject, executor: FakeExecutor, baseline: str = "baseline") -> None:
        folders = Project(project.path, project.path / "experiments", project.path / baseline)
        self.context = Context(folders, Options(track="cpu"), executor)
        self.root = project.path.with_name(f"{project.path.name}-scratch") / "experiments"
        self.root.mkdir(parents=True)

    def write(self, body: str, name: str = "mine") -> Path:
        return write(self.root / f"{name}.py", body)

    def check(self, body: str, name: str = "mine", waiting: list[Path] | None = None) -> str:
        return preflight.check(self.context, self.write(body, name), self.root, waiting or [])


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    """A recorded baseline, and an idea that was discarded."""
    executor = project.fake(judged=[2.3], winner=[1.9, 1.92])
    project.idea("judged")
    project.night(executor)
    return executor


@pytest.fixture
def author(project: TinyProject, fake: FakeExecutor) -> Author:
    return Author(project, fake)


def test_what_is_worth_a_run_passes(author: Author) -> None:
    assert author.check(OVERLAY + "WIDTH = 24\n") == ""
    assert author.check(BASELINE.replace("WIDTH = 16", "WIDTH = 24"), "folder/whole") == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("WIDTH = (\n", "experiments/mine.py:1: '(' was never closed"),
        ("", "experiments/mine.py: empty; write a program that defines `train`"),
        ("WIDTH = 3\n", "experiments/mine.py: neither a program"),
        (OVERLAY + "WIDHT = 3\n", "experiments/mine.py:2: `WIDHT`: baseline/cpu/train.py has no such name"),
        (OVERLAY + "BATCH_SIZE = 8\n", "experiments/mine.py: the program equals the baseline"),
        (OVERLAY + 'TRACK = "cuda"\nWIDTH = 3\n', "experiments/mine.py: only for track cuda; this is cpu"),
        (OVERLAY + f"WIDTH = 3  # {'x' * 64_000}\n", "experiments/mine.py: 64037 bytes of source; at most 64000 are"),
        (
            OVERLAY + "torch.manual_seed(0)\n",
            "experiments/mine.py: would be disqualified: experiments/mine.py:2: `torch.manual_seed(0)`: random",
        ),
        (
            OVERLAY + 'GOAL = "simplify"\nWIDTH = 3\n',
            'experiments/mine.py: GOAL = "simplify" needs simplify_margin in baseline/cpu/track.toml',
        ),
        (OVERLAY + 'SEARCH_SPACE = {"WIDTH": [3, 4]}\n', "experiments/mine.py: has a SEARCH_SPACE, and the loop"),
    ],
)
@pytest.mark.parametrize("folder", ["baseline", "tracks"])
def test_each_reason_is_one_line_with_paths_of_the_scratch_folder(
    project: TinyProject, fake: FakeExecutor, folder: str, body: str, reason: str
) -> None:
    (project.path / "baseline").rename(project.path / folder)  # in the scratch folder its name is always `baseline`
    found = Author(project, fake, folder).check(body)
    assert found.startswith(reason)
    assert "\n" not in found
    assert project.path.name not in found


def test_names_that_pytest_does_not_collect_are_refused(author: Author) -> None:
    for name in ("_mine", "conftest"):
        assert author.check(OVERLAY + "WIDTH = 24\n", name).startswith(f"experiments/{name}.py: not taken for an")


def test_a_simplification_must_be_simpler(project: TinyProject, author: Author) -> None:
    project.track("seeds = 2", "seeds = 2\nsimplify_margin = 0.01")
    body = BASELINE.replace("WIDTH = 16", 'GOAL = "simplify"\nWIDTH = 2 * 8')
    assert author.check(body).startswith("experiments/mine.py: would be discarded: is no simpler: ")
    assert (
        author.check(BASELINE.replace("WIDTH = 16", 'GOAL = "simplify"\nWIDTH = 3').replace("LEARNING_RATE *", ""))
        == ""
    )


def test_a_judged_program_is_named_with_its_verdict(project: TinyProject, author: Author) -> None:
    body = (project.path / "experiments/judged.py").read_text()
    line = "experiments/mine.py: the same program as judged: DISCARDED 2.3000 against 2.0000 on seed 0 (+0.3000"
    assert author.check(body + "# in other words\n").startswith(line)
    assert author.check(body, "judged").startswith(line.replace("mine", "judged"))


def test_what_met_an_earlier_baseline_is_known_too(project: TinyProject, fake: FakeExecutor, author: Author) -> None:
    whole = BASELINE.replace("WIDTH = 16", "WIDTH = 12  # judged #")
    judged = project.experiment("whole", whole)
    text, idea = judged.read_text(), (project.path / "experiments/judged.py").read_text()
    project.idea("winner")
    project.night(fake)
    assert author.check(text) == "experiments/mine.py: the same program as whole, judged before: discarded +0.3000"
    reason = author.check(idea, "judged")
    assert reason.startswith("experiments/judged.py: discarded against an earlier baseline, ")
    assert "--ar" not in reason
    assert author.check(OVERLAY + "WIDTH = 16\n") == "", "it is read against today's baseline"
    assert "equals the baseline" in author.check((project.path / "experiments/winner.py").read_text())


def test_what_waits_is_not_written_twice(project: TinyProject, author: Author) -> None:
    there = [project.experiment("theirs", "WIDTH = 24"), project.experiment("broken", "WIDTH = ("), Path("/gone.py")]
    second = author.write(OVERLAY + "WIDTH = 48\n", "second")
    first = author.write(OVERLAY + "WIDTH = 48  # or so\n", "first")
    waiting = [*there, first, second]
    same = "the same program as experiments/{}.py, which waits for its verdict"
    assert author.check(OVERLAY + "WIDTH = 24  # mine\n", waiting=waiting).endswith(same.format("theirs"))
    assert preflight.check(author.context, second, author.root, waiting).endswith(same.format("first"))
    assert preflight.check(author.context, first, author.root, [first]) == ""
    assert author.check(OVERLAY + "WIDTH = 25\n", waiting=waiting) == ""


def test_without_a_record_the_source_is_checked_all_the_same(project: TinyProject, author: Author) -> None:
    (project.path / "baseline/cpu/baseline.json").unlink()
    assert author.check(OVERLAY + "WIDTH = 24\n") == ""
    assert "has no such name" in author.check(OVERLAY + "WIDHT = 24\n")
    body = (project.path / "experiments/judged.py").read_text()
    assert author.check(body) == "experiments/mine.py: the same program as judged, judged before: discarded +0.3000"


def test_a_broken_baseline_is_not_the_author_s_fault(project: TinyProject, author: Author) -> None:
    write(project.path / "baseline/cpu/train.py", "def train(")
    with pytest.raises(UsageError, match=r"baseline/cpu/train.py:1"):
        author.check(OVERLAY + "WIDTH = 24\n")


def test_control_characters_do_not_reach_the_author(author: Author) -> None:
    assert "\x1b" not in author.check("\x1b[2J = 3\n")
