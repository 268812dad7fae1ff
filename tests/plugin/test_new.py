"""`autoresearch new`: experiments from others, from constants and from an edit of `train.py`."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.errors import UsageError

New = Callable[..., str]


@pytest.fixture
def new(project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> New:
    """Run `autoresearch new mine …` in the project. Returns the new file's text, or the error without its beginning."""
    monkeypatch.chdir(project.path)

    def run(*arguments: str) -> str:
        code = main(["new", "mine", *arguments])
        said = capsys.readouterr()
        if code == 0:
            assert said.out == "experiments/mine.py\n"
            return (project.path / "experiments/mine.py").read_text()
        error, *detail = said.err.splitlines()
        assert code == 2
        assert all(line.startswith("| ") for line in detail)
        return error.removeprefix("autoresearch: ").replace(f"{project.path}/", "")

    return run


@pytest.fixture
def train_py(project: TinyProject) -> Path:
    return project.path / "baseline/cpu/train.py"


# -- --combine --


def test_combine(project: TinyProject, new: New) -> None:
    project.experiment("wide", "WIDTH = 2 * WIDTH", "Wide")
    project.experiment("sub/fast", 'TRACK = "cpu"\nLEARNING_RATE = 1e-2', "Fast")
    assert new("--combine", "wide", "sub/fast") == (
        '"""wide + fast: Wide. Fast."""\n\nfrom baseline import *\n\n'
        'TRACK = "cpu"\n\nWIDTH = 2 * WIDTH\nLEARNING_RATE = 1e-2\n'
    )


def test_what_cannot_be_combined(project: TinyProject, new: New) -> None:
    project.experiment("wide", "WIDTH = 32")
    project.experiment("wider", "WIDTH = 64")
    project.experiment("typo", "WIDHT = 64")
    project.experiment("half", "HALF = WIDTH // 2\nLEARNING_RATE = 1e-3 * BATCH_SIZE\ndef make_model(n): return HALF")
    project.experiment("cycle", "WIDTH = int(1e4 * LEARNING_RATE)")
    assert new("--combine", "wide", "wider") == (
        "experiments/wide.py:4 and experiments/wider.py:4: both bind `WIDTH`; "
        "only experiments that bind different names can be combined"
    )
    assert new("--combine", "wide", "widest").startswith("experiments/widest.py: no such experiment; did you mean")
    assert new("--combine", "wide", "typo").startswith("experiments/typo.py:4: `WIDHT`: baseline/cpu/train.py has no")
    assert new("--combine", "half", "cycle").endswith(
        "compute values from one another's; write the combination by hand"
    )
    assert new("--combine", "wide") == "--combine wide: name at least two experiments"
    assert not (project.path / "experiments/mine.py").exists()


def test_a_combination_is_checked_on_its_own_track(project: TinyProject, new: New) -> None:
    folder = project.path / "baseline/large"
    folder.mkdir()
    (folder / "track.toml").write_text((project.path / "baseline/cpu/track.toml").read_text())
    (folder / "train.py").write_text(BASELINE + "\nDEPTH = 1\n")
    project.experiment("deep", 'TRACK = "large"\nDEPTH = 2')
    project.experiment("wide", "WIDTH = 32")
    assert "DEPTH = 2" in new("--combine", "wide", "deep")


# -- --set --


def test_set(new: New) -> None:
    assert new("--set", "LEARNING_RATE=0.002", "BATCH_SIZE=16", "--set", "WIDTH=2**5") == (
        '"""Mine: LEARNING_RATE=0.002 BATCH_SIZE=16 WIDTH=32"""\n\nfrom baseline import *\n\n'
        'TRACK = "cpu"\n\nLEARNING_RATE = 0.002\nBATCH_SIZE = 16\nWIDTH = 32\n'
    )


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            ["LEARNIGN_RATE=1"],
            "--set LEARNIGN_RATE: baseline/cpu/train.py has no such constant; did you mean `LEARNING_RATE`?",
        ),
        (["Q=1"], "--set Q: baseline/cpu/train.py has no such constant; there is: WIDTH, BATCH_SIZE, LEARNING_RATE"),
        (["WIDTH=wide"], "--set WIDTH=wide: in baseline/cpu/train.py it is no string but 16"),
        (["WIDTH"], "`WIDTH`: must be NAME=VALUE"),
        (["WIDTH=1", "WIDTH=2"], "--set WIDTH: given twice"),
        (
            ["WIDTH=16", "LEARNING_RATE=0.001"],
            "--set WIDTH=16 LEARNING_RATE=0.001: baseline/cpu/train.py has these values",
        ),
    ],
)
def test_settings_that_make_no_experiment(new: New, settings: list[str], error: str) -> None:
    assert new("--set", *settings).startswith(error)


# -- --from --


def test_from_copies_an_experiment(project: TinyProject, new: New) -> None:
    path = project.experiment("wide", "WIDTH = 2 * WIDTH  # twice", "Wide")
    assert new("--from", "wide") == path.read_text().replace("Wide", "mine: from wide: Wide")


def test_from_and_combine_with_set(project: TinyProject, new: New) -> None:
    project.experiment("wide", "WIDTH = 2 * WIDTH  # channels", "Wide")
    project.experiment("fast", "LEARNING_RATE = 1e-2", "Fast")
    assert new("--from", "wide", "--set", "WIDTH=48", "BATCH_SIZE=4") == (
        '"""WIDTH=48 BATCH_SIZE=4: mine: from wide: Wide."""\nfrom baseline import *\n\n'
        "WIDTH = 48  # channels\nBATCH_SIZE = 4\n"
    )
    (project.path / "experiments/mine.py").unlink()
    text = new("--combine", "wide", "fast", "--set", "WIDTH=8")
    assert text.startswith('"""WIDTH=8: wide + fast: Wide. Fast."""')
    assert "WIDTH = 8  # channels\nLEARNING_RATE = 1e-2\n" in text


def test_set_rewrites_a_complete_program(project: TinyProject, new: New) -> None:
    project.experiment("whole", BASELINE.partition("\n\n")[2], "Whole")
    text = new("--from", "whole", "--set", "WIDTH=8")
    assert text.startswith('"""WIDTH=8: mine: from whole: Whole."""')
    assert "\nWIDTH = 8\nBATCH_SIZE = 8  # sequences\n" in text


@pytest.mark.parametrize(
    "options",
    [["--from", "a", "--combine", "a", "b"], ["--from-edit", "--from", "a"], ["--from-edit", "--combine", "a"]],
)
def test_options_that_do_not_go_together(
    project: TinyProject, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["new", "mine", *options])
    assert end.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_set_does_not_go_with_from_edit(new: New) -> None:
    assert new("--from-edit", "--set", "WIDTH=8").startswith("--set does not go with --from-edit")


# -- --from-edit --


@pytest.fixture
def judged(project: TinyProject) -> TinyProject:
    """The project with a baseline that a fake executor has recorded."""
    project.idea("bad")
    project.night(project.fake(bad=(3.0,)))
    return project


def test_an_edit_becomes_an_experiment(judged: TinyProject, new: New, train_py: Path) -> None:
    train_py.write_text(
        BASELINE.replace("WIDTH = 16", "WIDTH = 32  # twice").replace("import torch\n", "import math\nimport torch\n")
    )
    assert new("--from-edit") == (
        '"""Mine: changes WIDTH, math"""\n\nfrom baseline import *\nimport math\n\n'
        'TRACK = "cpu"\n\nWIDTH = 32  # twice\n'
    )
    assert train_py.read_text() == BASELINE
    assert judged.night(judged.fake(bad=(3.0,), mine=(3.0,))).verdicts.keys() == {"bad", "mine"}


def test_a_removal_becomes_a_complete_program(judged: TinyProject, new: New, train_py: Path) -> None:
    edited = BASELINE.replace("WIDTH = 16\n", "").replace("WIDTH", "16")
    train_py.write_text(edited)
    assert new("--from-edit") == edited.replace("A bigram", "Mine: A bigram")
    assert train_py.read_text() == BASELINE


def test_the_error_of_a_session_names_the_command(judged: TinyProject, train_py: Path) -> None:
    train_py.write_text(BASELINE.replace("WIDTH = 16", "WIDTH = 32"))
    with pytest.raises(UsageError, match="`autoresearch --track cpu new NAME --from-edit`"):
        judged.night(judged.fake(), track="cpu")


def test_a_kill_between_the_two_writes(
    judged: TinyProject, new: New, train_py: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = BASELINE.replace("WIDTH = 16", "WIDTH = 32")
    train_py.write_text(edited)

    def killed(*_: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr("pytest_autoresearch.cli.new.write_atomically", killed)
        with pytest.raises(SystemExit):
            new("--from-edit")
    assert train_py.read_text() == edited
    assert "WIDTH = 32" in (judged.path / "experiments/mine.py").read_text()
    assert "WIDTH = 32" in new("--from-edit"), "the same command goes on"
    assert train_py.read_text() == BASELINE


def test_another_file_of_that_name_is_left_alone(judged: TinyProject, new: New, train_py: Path) -> None:
    train_py.write_text(edited := BASELINE.replace("WIDTH = 16", "WIDTH = 32"))
    other = judged.experiment("mine", "WIDTH = 8")
    before = other.read_text()
    assert new("--from-edit") == "experiments/mine.py: already exists; choose another name"
    assert (other.read_text(), train_py.read_text()) == (before, edited)


@pytest.mark.parametrize(
    ("edited", "error"),
    [
        (BASELINE, "baseline/cpu/train.py: is the recorded program: nothing was edited"),
        (
            BASELINE + "# more\n",
            "baseline/cpu/train.py: only comments or layout differ from the record; nothing to judge",
        ),
        (BASELINE.replace("import torch\n", "import\n", 1), "baseline/cpu/train.py:3: "),
    ],
)
def test_edits_that_make_no_experiment(judged: TinyProject, new: New, train_py: Path, edited: str, error: str) -> None:
    train_py.write_text(edited)
    assert new("--from-edit").startswith(error)
    assert train_py.read_text() == edited
    assert not (judged.path / "experiments/mine.py").exists()


def test_without_a_record(project: TinyProject, new: New, train_py: Path) -> None:
    assert new("--from-edit").startswith("baseline/cpu/train.py: has no record, so nothing says what it was")


def test_the_program_before_comes_from_git_where_the_evidence_is_gone(
    judged: TinyProject, new: New, train_py: Path
) -> None:
    (judged.path / "results").rename(judged.path / "moved")
    train_py.write_text(edited := BASELINE.replace("WIDTH = 16", "WIDTH = 32"))
    git(judged.path, "init")
    git(judged.path, "add", ".")
    git(judged.path, "commit", "-m", "the edit")
    assert "neither git's last commit nor results has the program of its record" in new("--from-edit")
    assert train_py.read_text() == edited
    train_py.write_text(BASELINE + "# a comment that was committed later\n")
    git(judged.path, "commit", "-am", "the baseline")
    train_py.write_text(edited)
    assert "WIDTH = 32" in new("--from-edit")
    assert train_py.read_text() == BASELINE + "# a comment that was committed later\n"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)
