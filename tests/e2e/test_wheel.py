"""The wheel holds all that a user's project needs: built, installed alone, `init` in an empty folder, one judgement."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/pytest_autoresearch"
SHIPPED = {
    *(f"baseline/{track}/{name}" for track in ("cpu", "cuda") for name in ("track.toml", "train.py")),
    "experiments/rmsnorm.py",
    "program.md",
    "AGENTS.md",
}
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
TEXT = ("argparse", "ast", "bdb", "calendar", "cgi", "cmd", "code", "codecs", "copy", "csv", "datetime", "dis", "enum")
"""Modules of the standard library whose text makes a small corpus."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command without this project on its path. Returns what it printed; its exit code must be 0 or 1."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode in (0, 1), done.stdout
    return done.stdout


def copy_sources(folder: Path) -> None:
    """A copy of what a build needs, so that it leaves nothing in the repository."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *SHIPPED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(PACKAGE, folder / "src" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="session")
def installed(shared_folder: Path) -> Path:
    """An environment with the wheel of a source distribution, and no other copy of the package on its path.

    All else, such as torch, it finds where this environment has it.
    """
    folder = shared_folder / "wheel"
    with FileLock(shared_folder / "wheel.lock"):
        if not folder.exists():
            folder.mkdir()
            copy_sources(folder / "source")
            run(sys.executable, "-c", BUILD, folder, cwd=folder / "source")
            (sdist,) = folder.glob("*.tar.gz")
            pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
            alone = ("--quiet", "--no-deps", "--no-index")
            run(*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", folder, sdist, cwd=folder)
            (wheel,) = folder.glob("*.whl")
            venv.create(folder / "venv", with_pip=False)
            run(*pip, "--python", folder / "venv/bin/python", "install", *alone, wheel, cwd=folder)
            (packages,) = (folder / "venv/lib").glob("python*/site-packages")
            others = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
            (packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    return folder


@pytest.fixture
def in_new_project(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a program of that environment in a folder of its own."""

    def call(*command: str, **environment: str) -> str:
        program = installed / "venv/bin" / command[0]
        return run(program, *command[1:], cwd=tmp_path, OMP_NUM_THREADS="1", COLUMNS="160", **environment)

    return call


pytestmark = pytest.mark.skipif(os.name != "posix", reason="the paths of an environment differ")


def test_the_wheel_has_the_whole_package_and_what_init_writes(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in SHIPPED:
            assert archive.read(f"pytest_autoresearch/shipped/{name}") == (ROOT / name).read_bytes()
    modules = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")}
    inside = {name for name in names if name.startswith("pytest_autoresearch/")}
    expected = modules | {f"pytest_autoresearch/shipped/{name}" for name in SHIPPED} | {"pytest_autoresearch/py.typed"}
    assert inside == expected


def test_an_installed_package_begins_a_project_and_judges(
    installed: Path, tmp_path: Path, in_new_project: Callable[..., str]
) -> None:
    where = in_new_project("python", "-c", "import pytest_autoresearch as package; print(package.__file__)")
    assert Path(where.strip()).is_relative_to(installed / "venv")
    out = in_new_project("autoresearch", "init")
    assert f"a new project in {tmp_path}: track" in out
    assert "  wrote baseline/cpu/train.py\n" in out
    assert f"{installed / 'venv/bin/autoresearch'} new my_idea " in out
    make_small(tmp_path)
    judge = ("-m", "pytest", "experiments", "-k", "rmsnorm", "--ar-track", "cpu")
    few = ("--ar-budget", "3 steps", "--ar-seeds", "1", "--ar-sandbox", "off", "-p", "no:cacheprovider")
    out = in_new_project("python", *judge, *few, AUTORESEARCH_CACHE=str(tmp_path / "cache"))
    assert "baseline recorded: val_bpb " in out
    rows = [line.split("\t") for line in (tmp_path / "results.tsv").read_text().splitlines()]
    verdicts = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [verdict["experiment"] for verdict in verdicts] == ["baseline", "rmsnorm"]
    assert verdicts[1]["verdict"] in ("kept", "discarded")
    assert "+1 −1" in out


def make_small(project: Path) -> None:
    """Less text to prepare and to score than the shipped track has."""
    (project / "text").mkdir()
    for name in TEXT:
        source = Path(sysconfig.get_path("stdlib"), f"{name}.py")
        if source.exists():  # newer Pythons lack some
            shutil.copy(source, project / "text")
    path = project / "baseline/cpu/track.toml"
    text = path.read_text().replace('"stdlib"', '"text"').replace("eval_tokens = 131072", "eval_tokens = 8192")
    assert text != path.read_text()
    path.write_text(text)


@pytest.mark.slow
def test_the_shipped_track_as_it_is(tmp_path: Path, in_new_project: Callable[..., str]) -> None:
    """What `make run` does, in a new project: the whole text, budget and number of seeds."""
    in_new_project("autoresearch", "init")
    judge = ("-m", "pytest", "experiments", "-k", "rmsnorm", "--ar-track", "cpu")
    out = in_new_project("python", *judge, AUTORESEARCH_CACHE=str(tmp_path / "cache"))
    assert "baseline recorded: val_bpb 2." in out
    assert "rmsnorm" in (tmp_path / "results.tsv").read_text()
