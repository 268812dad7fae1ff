"""The `autoresearch` command, as a user types it."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.track_presets import Card


@pytest.fixture
def here(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    project.experiment("wide", "WIDTH = WIDTH * 2", "Twice as wide")
    monkeypatch.chdir(project.path)
    return project


@pytest.mark.parametrize("name", ["wide", "wide.py", "experiments/wide.py"])
def test_show_prints_the_complete_program(here: TinyProject, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["show", name]) == 0
    assert capsys.readouterr().out == BASELINE.replace("WIDTH = 16\n", "WIDTH = 16\nWIDTH = WIDTH * 2\n")


def test_diff_is_a_patch(here: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "wide"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("--- ")
    assert "\n+WIDTH = WIDTH * 2\n" in out


def test_it_works_from_a_folder_further_down(
    here: TinyProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here.path / "experiments")
    assert main(["diff", "wide"]) == 0
    assert "+WIDTH" in capsys.readouterr().out


def test_new_begins_an_overlay_and_never_overwrites(here: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "my_idea"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == Path("experiments/my_idea.py")  # from where the command was typed
    assert "from baseline import *" in path.read_text()
    before = path.read_text()
    assert main(["new", "my_idea"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert path.read_text() == before
    result = here.run("-k", "my_idea")
    result.assert_outcomes(skipped=1)
    assert "UNCHANGED: the program equals the baseline" in result.stdout.str()


@pytest.mark.parametrize("name", ["experiments/norms/mine", "norms/mine.py", "./experiments/norms/mine.py"])
def test_new_takes_a_path_as_the_shell_completes_it(
    here: TinyProject, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["new", name]) == 0
    assert capsys.readouterr().out == "experiments/norms/mine.py\n"


def test_the_diff_of_an_unchanged_program_says_so(here: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    here.experiment("same", "WIDTH = 16")
    assert main(["diff", "same"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "autoresearch: same: the program equals the baseline baseline/cpu/train.py\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == f"autoresearch {version('pytest-autoresearch')}"


def test_ctrl_c_is_one_line(
    here: TinyProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_autoresearch.judging.context.Context.prepare", interrupted)
    assert main(["prepare"]) == 130
    assert (
        capsys.readouterr().err
        == "autoresearch: interrupted; finished parts are kept, and the same command continues\n"
    )


def test_prepare_says_what_there_is(here: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare"]) == 0
    assert "track cpu: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nothing"], "experiments/nothing.py: no such experiment; there is: wide"),
        (["show", "wid"], "experiments/wid.py: no such experiment; did you mean `wide`?"),
        (["diff", "Wide"], "experiments/Wide.py: no such experiment; did you mean `wide`?"),
        (["--track", "tpu", "show", "wide"], "no track 'tpu'; there is: cpu"),
        *(
            (
                ["new", name],
                f"{name}: not a name of an experiment; it must have only letters, digits and _, begin with a letter",
            )
            for name in (
                "../outside",
                "_hidden",
                "my idea",
                "class",
                "123",
                "conftest",
                "",
                ".",
                "a//",
                "a/-b",
                "é.txt",
            )
        ),
    ],
)
def test_mistakes_are_one_line(
    here: TinyProject, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("autoresearch: ")
    assert words in error
    assert error.count("\n") == 1


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "wide"]) == 2
    assert (
        "no project here or above: neither pytest's settings nor a folder `baseline`; `autoresearch init`"
        in capsys.readouterr().err
    )


def test_a_closed_pipe_is_no_traceback(here: TinyProject) -> None:
    baseline = here.path / "baseline/cpu/train.py"
    baseline.write_text(baseline.read_text() + "# long\n" * 100_000)
    here.experiment("long", "WIDTH = 3")
    command = f"{sys.executable} -m pytest_autoresearch.cli show long | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ)
    assert result.stdout == '"""A bigram model."""\n'
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["show", "diff"])
def test_an_experiment_for_one_track_is_shown_on_that_track(
    here: TinyProject, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    shutil.copytree(here.path / "baseline/cpu", here.path / "baseline/large")
    program = here.path / "baseline/large/train.py"
    program.write_text(program.read_text().replace("WIDTH = 16", "WIDTH = 64"))
    here.experiment("only", 'TRACK = "large"\nWIDTH = WIDTH + 1')
    assert main([command, "only"]) == 0
    assert "WIDTH = 64\n" in capsys.readouterr().out
    assert main(["--track", "cpu", command, "only"]) == 0
    assert "WIDTH = 16\n" in capsys.readouterr().out


def test_init_writes_a_track_for_the_card_that_is_there(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.path)
    shutil.copytree(Path(__file__).parents[2] / "baseline/cuda", project.path / "baseline/cuda")
    monkeypatch.setattr("pytest_autoresearch.cli.init.find_card", lambda: Card("Card 3060", "cuda", 12.6e9, True))
    assert main(["init", "--track"]) == 0
    said = capsys.readouterr().out
    assert "Card 3060, 13 GB, bfloat16:" in said
    assert "--ar-track cuda-13gb" in said
    assert read_track(project.path / "baseline/cuda-13gb").vocab_size == 4096
    assert main(["init", "--track"]) == 2
    assert "already exists" in capsys.readouterr().err
    for name in ("../x", ".x", "a/b", "."):
        assert main(["init", "--track", name]) == 2
        assert "must be the name of a folder" in capsys.readouterr().err


def test_init_without_a_card(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.path)
    shutil.copytree(Path(__file__).parents[2] / "baseline/cuda", project.path / "baseline/cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert main(["init", "--track", "mine"]) == 2
    assert "no GPU that torch can use" in capsys.readouterr().err
    assert not (project.path / "baseline/mine").exists()


def test_the_help_of_a_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["suggest", "--help"])
    assert "\nprint what is worth a run without a new idea" in capsys.readouterr().out
