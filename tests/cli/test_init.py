"""`autoresearch init`: in an empty folder, in a repository of one's own, twice, and where something is in the way."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import read_track, track_names
from pytest_autoresearch.judging.project import find_project, read_settings
from pytest_autoresearch.judging.track_presets import Card
from pytest_autoresearch.programs.experiment import read_experiment

ROOT = Path(__file__).parents[2]
SHIPPED = ["AGENTS.md", "baseline/cpu/track.toml", "baseline/cpu/train.py", "experiments/rmsnorm.py", "program.md"]
OWN = [".gitignore", "ideas.md", "pytest.ini"]
IGNORED = ["/results.tsv", "/results/", "/baseline/*/.lock", "/baseline/*/promotion.json"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a machine without a GPU."""
    monkeypatch.setattr("pytest_autoresearch.cli.init.has_cuda", lambda: False)
    monkeypatch.setattr("sys.platform", "linux")
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """What is in a folder: the content of files, and where links lead."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# -- a new project --


def test_an_empty_folder_becomes_a_project(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    made = snapshot(here)
    assert sorted(made) == sorted([*SHIPPED, *OWN])
    for name in SHIPPED:
        assert made[name] == (ROOT / name).read_bytes()
    project, settings = find_project(here)
    assert (project.root, settings) == (here, {})
    track = read_track(project.baseline / "cpu")
    experiment = read_experiment(here / "experiments/rmsnorm.py", project.experiments)
    assert experiment.track == "cpu"
    assert "Norm = nn.RMSNorm" in experiment.program(track.program_path.read_text(), track.program_path).source
    out = said(capsys)
    assert out.startswith(f"a new project in {here}: track cpu\n")
    assert all(f"  wrote {name}\n" in out for name in made)
    assert "note:" not in out
    following = out[out.index("Next: ") :].splitlines()
    assert len(following) == 3
    for line, words in zip(
        following, ("pytest experiments -k rmsnorm ", "autoresearch new my_idea ", "loop"), strict=True
    ):
        assert words in line


def test_twice_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--ci", "github"]) == 0
    before = snapshot(here)
    said(capsys)
    assert main(["init", "--ci", "github"]) == 0
    assert snapshot(here) == before
    out = said(capsys)
    assert f"{here} is a project already: track cpu\n" in out
    assert "wrote" not in out
    assert "added" not in out
    assert "  left program.md as it is\n" in out
    assert "note:" not in out


def test_what_was_deleted_from_a_project_stays_away(here: Path) -> None:
    """An experiment that its owner has deleted does not come back; the pages do."""
    main(["init"])
    for name in ("experiments/rmsnorm.py", "program.md"):
        (here / name).unlink()
    main(["init"])
    assert not (here / "experiments/rmsnorm.py").exists()
    assert (here / "program.md").exists()


def test_a_kill_in_between_is_completed_by_the_same_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes a folder a project is written when all else that belongs to the track is there."""
    main(["init"])
    written = [line.removeprefix("  wrote ") for line in said(capsys).splitlines() if line.startswith("  wrote ")]
    assert written[-2:] == ["baseline/cpu/track.toml", ".gitignore"]
    for name in ("baseline/cpu/track.toml", "experiments/rmsnorm.py"):
        (here / name).unlink()
    main(["init"])
    assert (here / "experiments/rmsnorm.py").exists()
    assert track_names(here / "baseline") == ["cpu"]


# -- a repository of one's own --


def test_settings_and_files_that_are_there_stay(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-ra"\n')
    write(here / "AGENTS.md", "Use tabs.\n")
    write(here / "program.md", "Mine.\n")
    write(here / "experiments/old/plot.py", "print(1)\n")
    write(here / "results/figure.txt", "x\n")
    before = snapshot(here)
    assert main(["init"]) == 0
    after = snapshot(here)
    assert {name: after[name] for name in before} == before
    assert "pytest.ini" not in after
    out = said(capsys)
    assert "  left AGENTS.md as it is\n" in out
    assert "note: add this line to AGENTS.md: Before you write or judge experiments, read program.md.\n" in out
    assert "note: experiments/ has 1 Python file already: each counts as an experiment;" in out
    assert "note: results/ is there already" in out
    assert "note: `pytest` alone will judge experiments, too; set testpaths" in out


@pytest.mark.parametrize("tests", ["tests", "test", None])
def test_pytest_alone_runs_the_tests_that_it_ran_before(here: Path, tests: str | None) -> None:
    write(here / "pyproject.toml", '[project]\nname = "mine"\n')
    if tests:
        (here / tests).mkdir()
    main(["init"])
    assert read_settings(here) == ({"testpaths": tests} if tests else {})


def test_a_pipe_in_place_of_settings_stops_nobody(here: Path) -> None:
    os.mkfifo(here / "setup.cfg")
    assert main(["init"]) == 0


def test_the_folders_are_those_of_the_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        here / "tox.ini",
        "[pytest]\ntestpaths = t\nautoresearch_experiments = lab/ideas\nautoresearch_baseline = lab/b\n",
    )
    assert main(["init", "--ci", "github"]) == 0
    made = snapshot(here)
    assert {"lab/ideas/rmsnorm.py", "lab/b/cpu/train.py", "lab/b/cpu/track.toml"} <= made.keys()
    assert not {name for name in made if name.startswith(("baseline/", "experiments/"))}
    assert "/lab/b/*/.lock\n" in (here / ".gitignore").read_text()
    assert "pytest lab/ideas " in (here / ".github/workflows/experiments.yml").read_text()
    out = said(capsys)
    assert "pytest lab/ideas -k rmsnorm" in out
    assert "note:" not in out


def test_a_subfolder_of_a_repository_becomes_a_project(here: Path) -> None:
    """Settings above do not make the folder above a project; it has no track."""
    write(here.parent / "pyproject.toml", "[tool.pytest.ini_options]\n")
    main(["init"])
    assert (here / "pytest.ini").exists()
    assert (here / "baseline/cpu/train.py").exists()
    assert not (here.parent / "program.md").exists()
    assert find_project(here)[0].root == here


def test_below_a_project_that_project_is_completed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project with a track of its own gets no other track, which might become the one that pytest chooses."""
    write(here / "baseline/words/track.toml", TRACK)
    write(here / "baseline/words/train.py", BASELINE)
    (here / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep/er")
    assert main(["init"]) == 0
    assert track_names(here / "baseline") == ["words"]
    assert not (here / "experiments").exists()
    assert (here / "program.md").exists()
    assert not list((here / "deep/er").iterdir())
    out = said(capsys)
    assert f"{here} is a project already: track words\n  wrote ../../program.md\n" in out
    assert "pytest ../../experiments  " in out


# -- .gitignore --


@pytest.mark.parametrize(
    ("before", "gap", "end", "lacking"),
    [
        (b"*.pyc", b"\n\n", b"\n", IGNORED),
        (b"results/\r\n", b"\r\n", b"\r\n", [line for line in IGNORED if line != "/results/"]),
        (b"", b"", b"\n", IGNORED),
        (b"\xff\n", b"\n", b"\n", IGNORED),
    ],
    ids=["no-end", "crlf", "empty", "not-utf-8"],
)
def test_lines_are_appended_once_with_the_files_own_ends(
    here: Path, capsys: pytest.CaptureFixture[str], before: bytes, gap: bytes, end: bytes, lacking: list[str]
) -> None:
    (here / ".gitignore").write_bytes(before)
    main(["init"])
    added = b"".join(line.encode() + end for line in ("# written by runs", *lacking))
    assert (here / ".gitignore").read_bytes() == before + gap + added
    assert "  added lines to .gitignore\n" in said(capsys)
    main(["init"])
    assert (here / ".gitignore").read_bytes() == before + gap + added


def test_git_ignores_what_runs_write(here: Path) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    main(["init"])
    for name in ("results.tsv", "results/cpu/x", "baseline/cpu/.lock", "baseline/cpu/promotion.json", "src/results/y"):
        write(here / name, "x")
    listed = git("ls-files", "--others", "--exclude-standard").splitlines()
    assert sorted(listed) == sorted([*SHIPPED, *OWN, "src/results/y"])


# -- in the way --


def test_links_and_folders_are_left(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "AGENTS.md").symlink_to("nowhere/AGENTS.md")
    (here / "program.md").mkdir()
    write(here.parent / "ignored", "shared\n")
    (here / ".gitignore").symlink_to("../ignored")
    assert main(["init"]) == 0
    assert os.readlink(here / "AGENTS.md") == "nowhere/AGENTS.md"
    assert (here.parent / "ignored").read_text() == "shared\n"
    out = said(capsys)
    assert "  left AGENTS.md as it is: a link to nothing\n" in out
    assert "  left program.md as it is: a folder\n" in out
    assert "  left .gitignore as it is: a link to a file\n" in out
    assert f"note: have git ignore: {' '.join(IGNORED)}\n" in out


@pytest.mark.parametrize("name", ["baseline", "baseline/cpu", "experiments"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_no_folder_can_be_made(here: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    """One line, and nothing half-written."""
    (here / name).parent.mkdir(exist_ok=True)
    (here / ".gitignore").write_text("mine\n")
    (here / name).symlink_to("nowhere") if kind == "link" else write(here / name, "mine")
    before = snapshot(here)
    assert main(["init"]) == 2
    what = "a link to nothing" if kind == "link" else "a file"
    assert capsys.readouterr().err == (
        f"autoresearch: {here / name}: must be a folder, and is {what}; nothing was written\n"
    )
    assert snapshot(here) == before
    assert {path.name for path in here.iterdir()} == {".gitignore", name.partition("/")[0]}


@pytest.mark.parametrize("broken", ["program.md", "track.toml", ".gitignore"])
def test_a_file_that_cannot_be_written_takes_all_others_with_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    from pytest_autoresearch.judging import new_files

    (here / ".gitignore").write_text("mine\n")

    def refuse(path: Path, text: str = "", *, create=new_files.create_atomically) -> None:  # type: ignore[no-untyped-def]
        if path.name == broken:
            raise OSError(30, "Read-only file system", str(path))
        create(path, text)

    monkeypatch.setattr(new_files, "create_atomically", refuse)

    def append_half(path: Path, data: bytes) -> None:
        append(path, data[: len(data) // 2])
        refuse(path)

    append = new_files.append
    if broken == ".gitignore":
        monkeypatch.setattr(new_files, "append", append_half)
    assert main(["init"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{broken}: cannot be written: Read-only file system; nothing was written" in error
    assert snapshot(here) == {".gitignore": b"mine\n"}
    assert len(list(here.iterdir())) == 1


# -- tracks for a GPU --


@pytest.fixture
def card(here: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A GPU in this machine."""
    card = Card("Card 3060", "cuda", 12.6e9, True)
    monkeypatch.setattr("pytest_autoresearch.cli.init.has_cuda", lambda: True)
    monkeypatch.setattr("pytest_autoresearch.cli.init.find_card", lambda: card)
    return card


def test_a_machine_with_a_gpu_gets_a_track_for_it_too(
    here: Path, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--ci", "github"]) == 0
    assert track_names(here / "baseline") == ["cpu", "cuda-13gb"]
    assert read_track(here / "baseline/cuda-13gb").vocab_size == 4096
    out = said(capsys)
    assert "tracks cpu, cuda-13gb\n" in out
    assert "judge on it with --ar-track cuda-13gb" in out
    assert "pytest experiments --ar-track cuda-13gb " in (here / ".github/workflows/experiments.yml").read_text()


def test_a_name_for_that_track(here: Path, card: Card, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--track", "a/b"]) == 2
    assert "must be the name of a folder" in capsys.readouterr().err
    assert not list(here.iterdir())
    assert main(["init", "--track", "mine"]) == 0
    assert track_names(here / "baseline") == ["cpu", "mine"]


def test_a_track_for_a_project_without_cuda_follows_the_shipped_one(
    here: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_autoresearch.cli.init.has_cuda", lambda: False)
    main(["init"])
    before = snapshot(here)
    assert main(["init", "--track"]) == 0
    added = snapshot(here).keys() - before.keys()
    assert added == {"baseline/cuda-13gb/track.toml", "baseline/cuda-13gb/train.py"}


def test_a_gpu_that_is_of_no_use_is_said(
    here: Path, card: Card, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> Card:
        raise UsageError("no GPU that torch can use; use the track `cpu`")

    monkeypatch.setattr("pytest_autoresearch.cli.init.find_card", none)
    assert main(["init", "--track"]) == 2
    assert not list(here.iterdir())
    assert main(["init"]) == 0
    assert track_names(here / "baseline") == ["cpu"]
    assert said(capsys).startswith("no track for a GPU: no GPU that torch can use")


# -- the workflow --


def test_the_workflow_judges_and_fails_on_errors_only(here: Path, tmp_path: Path) -> None:
    main(["init", "--ci", "github"])
    document = yaml.safe_load((here / ".github/workflows/experiments.yml").read_text())
    assert document[True].keys() == {"push", "workflow_dispatch"}  # YAML 1.1 reads the key `on` as a truth value
    assert document[True]["push"]["paths"] == ["experiments/**", "baseline/**"]
    (job,) = document["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "gpu"]
    assert job["timeout-minutes"] > 5 * 60
    checkout, install, judge, upload = job["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert "pip install 'pytest-autoresearch[hub]'" in install["run"]
    assert upload["if"] == "always()"
    assert upload["with"]["path"].split() == ["results.tsv", "results/", "baseline/*/baseline.json"]
    fake = write(here / ".venv/bin/pytest", '#!/bin/sh\necho "$@" > asked\nexit "$(cat code)"\n')
    fake.chmod(0o755)
    for code, result in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)):
        write(here / "code", str(code))
        assert subprocess.run(["bash", "-e", "-c", judge["run"]], cwd=here).returncode == result
    assert (here / "asked").read_text() == "experiments --ar-hours 5 --ar-no-promote\n"


def test_the_workflow_of_a_subfolder_stands_where_github_looks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here.parent / ".git").mkdir()
    main(["init", "--ci", "github"])
    assert not (here / ".github").exists()
    document = yaml.safe_load((here.parent / ".github/workflows/experiments.yml").read_text())
    (job,) = document["jobs"].values()
    assert job["defaults"]["run"]["working-directory"] == "mine"
    assert document[True]["push"]["paths"] == ["mine/experiments/**", "mine/baseline/**"]
    assert job["steps"][-1]["with"]["path"].split()[0] == "mine/results.tsv"
    assert "  wrote ../.github/workflows/experiments.yml\n" in said(capsys)


def test_a_package_without_its_copies_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_autoresearch.judging.shipped.PACKAGE", here / "lib/python/pytest_autoresearch")
    assert main(["init"]) == 2
    assert "the package lacks its copy of program.md; install it again" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_installed_copies_come_before_what_lies_around_the_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = here / "lib/python/pytest_autoresearch"
    for name in SHIPPED:
        for copy in (package / "shipped" / name, here / "lib" / name):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
    write(package / "shipped/program.md", "the copy\n")
    monkeypatch.setattr("pytest_autoresearch.judging.shipped.PACKAGE", package)
    main(["init"])
    assert (here / "program.md").read_text() == "the copy\n"
