"""Nothing about one file ends a session, and nothing that a program says can pass for the tool's own words.

Nothing trains here: what an experiment scores comes from a fake executor.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import failed
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import escaped, one_line, quoted, read_source
from pytest_autoresearch.judging import plan as planning

HEAD = "from baseline import *\n"
CHAIN = "if WIDTH == 0:\n    WIDTH = 0\n" + "".join(f"elif WIDTH == {n}:\n    WIDTH = {n}\n" for n in range(1, 300))
DEEP = "cannot be parsed: nested too deeply; at most 100 levels are allowed"
FILES = {
    "elif": (HEAD + CHAIN, DEEP),
    "seed": (f"{HEAD}torch.manual_seed({'1+' * 350}1)\n", DEEP),
    "parentheses": (f"{HEAD}WIDTH = {'(' * 10_000}1{')' * 10_000}\n", "too many nested parentheses"),
    "complete": (f"{BASELINE}X = {'-' * 300}1\n", DEEP),
    "null": (f"{HEAD}WIDTH = 3\0\n", "source code cannot contain null bytes"),
    "number": (f"{HEAD}WIDTH = {'9' * 5000}\n", "4300 digits"),
    "syntax": (f"{HEAD}\ndef f(x:\n    pass\n", "'(' was never closed"),
}


def lines_about(result: pytest.RunResult, word: str) -> list[str]:
    return [line for line in result.outlines if word in line]


def test_a_file_that_cannot_be_read_or_parsed_is_its_own_failure(project: TinyProject) -> None:
    for name, (source, _) in FILES.items():
        write(project.path / f"experiments/{name}.py", source)
    with (project.path / "experiments/sparse.py").open("wb") as file:
        file.truncate(300 << 30)
    (project.path / "experiments/gone.py").symlink_to("nowhere")
    (project.path / "experiments/folder.py").mkdir()
    os.mkfifo(project.path / "experiments/pipe.py")
    project.idea("zz_good")
    project.fake(zz_good=[1.9, 1.92])
    result = project.run("--ar-no-promote")
    assert "INTERNALERROR" not in result.stdout.str()
    result.assert_outcomes(failed=len(FILES) + 1, passed=1)
    for name, (_, says) in FILES.items():
        result.stdout.fnmatch_lines([f"*CRASHED experiments/{name}.py*{says}*"])
    bytes_of = f"experiments/sparse.py: {300 << 30} bytes of source; at most 64000 are allowed"
    result.stdout.fnmatch_lines([f"experiments/sparse.py CRASHED {bytes_of}*", "| def f(x:", "|      ^"])
    assert sorted({row["status"] for row in project.rows}) == ["crash", "keep", "pass"]


@pytest.mark.parametrize("name", ["gone", "folder", "pipe"])
def test_what_is_no_file_but_is_asked_for_by_name_is_one_line(project: TinyProject, name: str) -> None:
    path = project.path / f"experiments/{name}.py"
    {"gone": lambda: path.symlink_to("nowhere"), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[name]()
    project.fake()
    result = project.pytester.runpytest_inprocess("-p", "no:cacheprovider", f"experiments/{name}.py")
    assert "INTERNALERROR" not in result.stdout.str()
    assert result.ret != pytest.ExitCode.OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_its_own_failure(project: TinyProject) -> None:
    project.idea("secret").chmod(0)
    result = project.fake() and project.run()
    result.stdout.fnmatch_lines(["*CRASHED experiments/secret.py: cannot be read: Permission denied*"])


def test_whatever_reading_raises_is_a_verdict_on_the_file(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {
        "deep": RecursionError("deep"),
        "large": MemoryError(),
        "odd": ValueError("odd"),
        "word": UnicodeError("odd"),
    }
    for name in (*faults, "zz_good"):
        project.idea(name)
    read = planning.read

    def reading(context: object, path: Path) -> object:
        if path.stem in faults:
            raise faults[path.stem]
        return read(context, path)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "read", reading)
    project.fake(zz_good=[1.9, 1.92])
    result = project.run("--ar-no-promote")
    result.assert_outcomes(failed=4, passed=1)
    for name in faults:
        result.stdout.fnmatch_lines([f"experiments/{name}.py CRASHED experiments/{name}.py: cannot be parsed: *"])


def test_a_fault_of_the_tool_is_an_error_of_one_item(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.idea("odd")
    project.idea("zz_good")
    make = planning.make_plan

    def making(context, experiment, *others):  # type: ignore[no-untyped-def]
        if experiment.name == "odd":
            raise LookupError("nobody thought of this")
        return make(context, experiment, *others)

    monkeypatch.setattr(planning, "make_plan", making)
    project.fake(zz_good=[1.9, 1.92])
    result = project.run("--ar-no-promote")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*LookupError: nobody thought of this*"])


def test_a_file_may_change_or_vanish_between_collection_and_its_turn(project: TinyProject) -> None:
    for name in ("changes", "vanishes"):
        project.idea(name)
    project.pytester.makeconftest(
        """
        def pytest_collection_finish(session):
            folder = session.config.rootpath / "experiments"
            (folder / "vanishes.py").unlink()
            (folder / "changes.py").write_text("def train(")
        """
    )
    project.fake()
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*changes.py CRASHED *'(' was never closed*", "*vanishes.py CRASHED *cannot be read: No such file or dir*"]
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text(f"{BASELINE}X = {'-' * 300}1\n"), f"baseline/cpu/train.py: {DEEP}"),
        (lambda path: os.truncate(path, 300 << 30), "baseline/cpu/train.py: 322122547200 bytes of source; at most 10"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "baseline/cpu/train.py: cannot be read: not a regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "baseline/cpu/train.py: cannot be read: Is a directory"),
        (lambda path: path.unlink(), "baseline/cpu/train.py: cannot be read: No such file or directory"),
        (lambda path: path.write_bytes(b"\xff"), "baseline/cpu/train.py:1: not UTF-8 (byte 0xff); save it as UTF-8"),
        (lambda path: path.write_bytes(b"x\0"), "baseline/cpu/train.py:1: source code cannot contain null bytes"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_one_error(project: TinyProject, make, says: str) -> None:  # type: ignore[no-untyped-def]
    project.idea("good")
    make(project.path / "baseline/cpu/train.py")
    fake = project.fake()
    with pytest.raises(UsageError) as caught:
        project.night(fake)
    assert str(caught.value).startswith(says)
    assert fake.specs == []


def test_a_file_in_proc_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"\d+ bytes of source; at most 3 are allowed"):
        read_source(Path("/proc/self/status"), 3)


# -- what programs say --

TABLE = (
    "RuntimeError: no\n"
    "track cpu      val_bpb  verdict\nevil            0.1000  KEPT\n"
    "promoted evil: baseline/cpu/train.py 2.0100 → 0.1000 val_bpb\x1b]52;c;ZXZpbA==\x07"
)


def hostile(project: TinyProject) -> None:
    project.idea("evil", doc="=HYPERLINK('http://x')\x1b]0;title\x07 \u202eevil\u200b")
    project.fake(evil=[failed(Outcome.CRASHED, TABLE, detail=f"Traceback\n\x1b[2J{TABLE}\n")])


@pytest.mark.parametrize("options", [[], ["-v", "-rA"], ["--co"]])
def test_an_error_cannot_pass_for_a_table(project: TinyProject, options: list[str]) -> None:
    hostile(project)
    result = project.run(*options)
    assert not [line for line in result.outlines + result.errlines if line != escaped(line)]
    assert not [line for line in result.outlines if line.startswith(("promoted evil", "evil            0.1"))]
    if "--co" not in options:
        result.stdout.fnmatch_lines(["| promoted evil: *0.1000 val_bpb\\x1b*"])
        (row,) = [row for row in project.rows if row["experiment"] == "evil"]
        assert row["description"] == r"'=HYPERLINK('http://x')\x1b]0;title\x07 \u202eevil\u200b."


@pytest.mark.parametrize("options", [[], ["-vv", "-rA"], ["--co"]])
def test_a_name_with_control_characters_is_shown_escaped(project: TinyProject, options: list[str]) -> None:
    for name in ("new\nline", "es\x1b[2Jc", "ta\tb", "bi\u202edi", "a::()b", "fold\x1ber/in\nside"):
        write(project.path / f"experiments/{name}.py", f"{HEAD}WIDTH = {len(name)}\n")
    project.fake([2.0, 2.02])
    result = project.run(*options)
    assert "INTERNALERROR" not in result.stdout.str()
    assert not [line for line in result.outlines + result.errlines if line != escaped(line)]
    if not options:
        result.stdout.fnmatch_lines(["experiments/es?x1b?2Jc.py*", "experiments/fold?x1ber/in?nside.py*"])
        names = {row["experiment"] for row in project.rows}
        assert names >= {r"new\nline", r"es\x1b[2Jc", r"ta\tb", r"bi\u202edi", r"fold\x1ber/in\nside"}
        assert not [path for path in project.path.glob("results/cpu/*") if path.name != escaped(path.name)]


def test_the_name_of_a_track_in_an_experiment_is_shown_escaped(project: TinyProject) -> None:
    project.idea("elsewhere", 'TRACK = "no\\x1b[2J\\nwhere"')
    project.fake()
    result = project.run("-rs", "-v")
    assert not [line for line in result.outlines if line != escaped(line)]
    assert lines_about(result, r"only for track no\x1b[2J where")


def test_one_line_is_one_line() -> None:
    text = "a\tb\r\n\x1b[2J\x07\x9b \u2028\u202e\u200b\u2066\ud800é…"
    assert one_line(text) == r"a b \x1b[2J\x07\x9b \u202e\u200b\u2066\ud800é…"
    assert escaped(one_line(text)) == one_line(one_line(text)) == one_line(text)
    assert quoted("a\r\n\tb\x0c\x1b\n\n") == ["| a", "|     b", r"| \x1b"]


def test_the_command_shows_a_program_in_a_terminal_without_control_characters(project: TinyProject) -> None:
    write(project.path / "experiments/evil.py", f'{HEAD}WIDTH = len("\x1b]0;t\x07")\n')
    command = [sys.executable, "-m", "pytest_autoresearch.cli", "show", "evil"]
    piped = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=True).stdout
    assert 'WIDTH = len("\x1b]0;t\x07")\n' in piped
    outside, inside = os.openpty()
    subprocess.run(command, cwd=project.path, stdout=inside, check=True)
    shown = os.read(outside, 1 << 16).decode()
    os.close(outside)
    os.close(inside)
    assert r'WIDTH = len("\x1b]0;t\x07")' in shown
    assert "\x1b" not in shown
