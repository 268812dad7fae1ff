"""The random agent: its moves are sane, what it writes is worth a run, and it tries nothing twice."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_history import SyntheticHistory

from pytest_autoresearch.judging import plan
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import random_agent
from pytest_autoresearch.loop.random_agent import can_move, is_near, main, moved, related
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.constants import constants_of
from pytest_autoresearch.programs.experiment import Program
from pytest_autoresearch.referee.local import LocalExecutor

BASELINE = '''"""A small program."""
WIDTH = 20
HEADS = 5
MLP_WIDTH = 4 * WIDTH
LEARNING_RATE = 4e-3
MOMENTUM = 0.95
ZERO = 0.0
DECAYS = True
KIND = "SSSL"
LAST = -1


class Attention:
    def parts(self, x):
        return x.split(WIDTH, HEADS)


def train(run):
    return Attention, MLP_WIDTH, LEARNING_RATE, MOMENTUM, ZERO, DECAYS, KIND, LAST
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a round has it, and the working folder."""
    SyntheticHistory.of(tmp_path, 0).write()
    (tmp_path / "baseline/cpu/train.py").write_text(BASELINE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTORESEARCH_TRACK", "cpu")
    for name in ("AUTORESEARCH_ROUND", "AUTORESEARCH_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def in_round(monkeypatch: pytest.MonkeyPatch, number: int, attempt: int = 1) -> int:
    monkeypatch.setenv("AUTORESEARCH_ROUND", str(number))
    monkeypatch.setenv("AUTORESEARCH_ATTEMPT", str(attempt))
    return main()


def written(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted((folder / "experiments").glob("*.py"))}


# -- moves --


@pytest.mark.parametrize("value", [0.004, 0.05, 0.3, 0.95, 0.98, 0.51, 1.0, 15.0, -0.5, 1e-8, 1, 2, 3, 16, 2**18])
def test_moves_are_sane(value: float) -> None:
    draw = random.Random(0)
    values = {moved(value, draw) for _ in range(300)}
    assert all(type(each) is type(value) for each in values)
    if isinstance(value, int):
        assert values <= {max(1, value // 2), max(1, 3 * value // 4), -(-5 * value // 4), 2 * value}
        assert min(values) >= 1
    else:
        known = 1 - value if 0.5 < value < 1 else value
        ratios = [(1 - each if 0.5 < value < 1 else each) / known for each in values if isinstance(each, float)]
        assert all(0.49 < ratio < 0.89 or 1.1 < ratio < 2.05 for ratio in ratios)
        assert min(ratios) < 0.6
        assert max(ratios) > 1.7
        assert all(len(re.sub(r"e.*|[-.]|^0+", "", f"{ratio * known:.12g}").strip("0")) <= 2 for ratio in ratios)


def test_what_is_moved() -> None:
    constants = constants_of(BASELINE)
    movable = {name for name, value in constants.items() if can_move(value)}
    assert movable == {"WIDTH", "HEADS", "MLP_WIDTH", "LEARNING_RATE", "MOMENTUM"}
    assert list(related(BASELINE, constants)) == [("MLP_WIDTH", "WIDTH"), ("WIDTH", "HEADS")]


def test_near_points_would_be_twins() -> None:
    assert is_near(0.004, 0.0043)
    assert is_near(3, 3)
    assert is_near("a", "a")
    assert not is_near(0.004, 0.0045)
    assert not is_near(0.98, 0.99)
    assert not is_near(16, 17)
    assert not is_near(0.004, None)


# -- what it writes --


def test_what_it_writes_is_worth_a_run_and_never_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 21):
        assert in_round(monkeypatch, number) == 0
    project = Project(folder, folder / "experiments", folder / "baseline")
    context = Context(project, Options(track="cpu"), LocalExecutor(folder))
    programs = set()
    for name, text in written(folder).items():
        experiment, program = plan.read(context, folder / f"experiments/{name}.py")  # no misspelt names, and a change
        programs.add(program.code_sha)
        values = constants_of(program.source)
        assert re.fullmatch(r"(raise|lower)_[a-z_]+\d*", name)
        assert re.match(r"(\w+=\S+ ?){1,3}: (was|were) ", experiment.description.replace(":", " :")), text
        assert 'TRACK = "cpu"' in text
        assert values["WIDTH"] % values["HEADS"] == 0  # type: ignore[operator]
        assert values["MLP_WIDTH"] % values["WIDTH"] == 0  # type: ignore[operator]
    assert len(programs) == len(written(folder)) == 20
    first = capsys.readouterr().out.splitlines()[0]
    assert re.match(r"wrote experiments/\w+\.py: \w+=\S+", first)


def test_a_night_is_repeatable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_round(monkeypatch, 4) == 0
    first = written(folder)
    (folder / "experiments" / f"{next(iter(first))}.py").unlink()
    assert in_round(monkeypatch, 4) == 0
    assert written(folder) == first
    assert (folder / "idea.txt").read_text().startswith(f"{next(iter(first))}: ")


def test_what_was_refused_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for attempt in (1, 2, 3):
        assert in_round(monkeypatch, 4, attempt) == 0
        (text,) = written(folder).values()
        seen.add(text)
    assert len(seen) == 3
    assert len((folder / "idea.txt").read_text().splitlines()) == 3


def test_each_attempt_has_another_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "baseline/cpu/train.py").write_text(ONE_CONSTANT)
    (folder / "suggestions").mkdir()
    (folder / "suggestions/c.py").write_text("from baseline import *\nWIDTH = 3\n")
    seen = []
    for attempt in range(1, 6):
        assert in_round(monkeypatch, 1, attempt) == 0
        seen += written(folder).values()
    assert len(set(seen)) == len(seen) == 5
    for attempt in (6, 7):
        assert in_round(monkeypatch, 1, attempt) == 1, "nothing is left"
        assert written(folder) == {}


def test_outside_of_a_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_TRACK", "cpu@20steps")
    assert main() == main() == 0
    assert len(written(folder)) == 2
    assert not (folder / "idea.txt").exists()


# -- what was tried --

ONE_CONSTANT = "WIDTH = 8\n\ndef train(run):\n    return WIDTH\n"
MOVES = (4, 6, 10, 16)


def exhaust(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The values of WIDTH that are left, all of which it writes before it says that there are no more."""
    number = 0
    while in_round(monkeypatch, number := number + 1) == 0:
        assert number < 20
    texts = written(folder).values()
    return sorted(int(match[1]) for text in texts if (match := re.search(r"^WIDTH = (\d+)$", text, re.MULTILINE)))


def test_it_says_when_there_is_nothing_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "baseline/cpu/train.py").write_text(ONE_CONSTANT)
    assert exhaust(folder, monkeypatch) == list(MOVES)
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing new: ")


def test_points_of_experiments_and_of_the_ledger_are_not_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of experiments in other words, of those whose file is gone, and of trials of sweeps."""
    (folder / "baseline/cpu/train.py").write_text(ONE_CONSTANT)
    (folder / "experiments/half.py").write_text("from baseline import *\nWIDTH = WIDTH // 2\n")
    history = SyntheticHistory(folder, random.Random(0), source=ONE_CONSTANT)
    gone = Program(ONE_CONSTANT.replace("8", "6")).sha
    history.rows = [
        history.row(experiment="gone", program_sha=gone),
        history.row(experiment="sweep[01]", verdict="tried", description="WIDTH=10: Widths."),
        history.row(experiment="before", description="WIDTH=16: was 8.", baseline_sha=sha256("another")),
    ]
    (folder / "results.tsv").write_text(history.ledger_text)
    assert exhaust(folder, monkeypatch) == [16]


def test_suggestions_are_taken_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "suggestions").mkdir()
    text = '"""a + b."""\nfrom baseline import *\nWIDTH = 24\nLEARNING_RATE = 1e-3\n'
    (folder / "suggestions/a_and_b.py").write_text(text)
    (folder / "suggestions/broken.py").write_text("from baseline import *\nWIDHT = 1\n")
    for number in range(1, 21):
        assert in_round(monkeypatch, number) == 0
    found = written(folder)
    assert found["a_and_b"] == text
    assert "broken" not in found
    assert len(found) == 20
    (folder / "baseline/cpu/train.py").write_text("KIND = 'a'\n\ndef train(run):\n    return KIND\n")
    (folder / "suggestions/c.py").write_text("from baseline import *\nKIND = 'b'\n")
    monkeypatch.setattr(random_agent, "SUGGESTED", 0.0)
    assert in_round(monkeypatch, 99) == 0
    assert "c" in written(folder), "there is no number to move"


def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "baseline/cpu/train.py").write_text("WIDTH = \n")
    assert main() == 2
    assert capsys.readouterr().err.startswith("random agent: ")
    (folder / "baseline/cpu/train.py").unlink()
    assert main() == 2
    assert "cannot be read" in capsys.readouterr().err


def test_it_imports_no_torch() -> None:
    code = f"import sys, {random_agent.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
