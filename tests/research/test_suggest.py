"""What is worth a run without a new idea: which ideas, in which order, in which files."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import Night
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.referee.local import LocalExecutor
from pytest_autoresearch.research import suggest as module
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.suggest import Suggestion, expected_gain, suggest

SCORES = {
    "rate": (1.80, 1.82),  # promoted
    "narrow": (1.95, 1.97),  # kept, and outrun
    "wide": (1.988, 2.008),  # a near miss, which binds what `narrow` binds
    "small": (1.99, 2.01),  # a near miss
    "bad": (2.2, 2.2),
    "half": (1.999, 2.01),  # better by less than noise
}


@pytest.fixture
def judged(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A project after a session that has promoted `rate`."""
    monkeypatch.chdir(project.path)
    project.track("alpha = 0.05", "alpha = 0.05\nnoise = 0.01\nsimplify_margin = 0.02")
    ideas = {"rate": "LEARNING_RATE = 2e-3", "narrow": "WIDTH = 8", "wide": "WIDTH = 12", "small": "BATCH_SIZE = 4"}
    ideas |= {"bad": "WIDTH = 1", "half": "WIDTH = 2"}
    for name, change in ideas.items():
        project.experiment(name, f"{change}  # {name} #", f"Idea {name}.")
    night = judge(project)
    assert [night.verdicts[name].outcome for name in ("narrow", "wide", "small")] == ["kept", "discarded", "discarded"]
    assert night.verdicts["rate"].experiment == night.session.context.baseline.promotions()[0].experiment
    return project


def judge(project: TinyProject, baseline: tuple[float, float] = (2.0, 2.02), **more: Any) -> Night:
    """A session on all experiments. A combination has the scores of the first of its ideas in `more` or SCORES."""
    options = {name: more.pop(name) for name in ("retest", "promote") if name in more}
    return project.night(project.fake(baseline, **{**more, **SCORES}), **options)


def context_of(project: TinyProject) -> Context:
    root = project.path
    return Context(Project(root, root / "experiments", root / "baseline"), Options(retest=True), LocalExecutor(root))


def suggested(project: TinyProject, at_most: int = 20) -> list[Suggestion]:
    context = context_of(project)
    return suggest(context, History.read(context.ledger, "cpu"), at_most)


def names_of(project: TinyProject) -> list[str]:
    return [each.name for each in suggested(project)]


def test_near_misses_and_pairs_best_first(judged: TinyProject) -> None:
    found = suggested(judged)
    assert [(each.kind, each.name) for each in found] == [
        ("kept", "narrow"),
        ("pair", "narrow_and_small"),
        ("near miss", "wide"),
        ("pair", "wide_and_small"),
        ("near miss", "small"),
    ]
    verdicts = {row["experiment"]: row for row in judged.rows}
    worth = {name: -float(row["delta"]) * (1 - float(row["p_value"])) for name, row in verdicts.items() if row["delta"]}
    assert [each.gain for each in found] == pytest.approx(
        [
            worth["narrow"],
            (worth["narrow"] + worth["small"]) / 2,
            worth["wide"],
            (worth["wide"] + worth["small"]) / 2,
            worth["small"],
        ]
    )
    assert (
        found[0].why
        == f"-0.0500 (p {float(verdicts['narrow']['p_value']):.2g}, kept) against an earlier baseline of 2.0100"
    )
    assert [each.text is None for each in found] == [True, False, True, False, True]
    assert [each.name for each in suggested(judged, 2)] == ["narrow", "narrow_and_small"]


def test_without_verdicts_nothing_is_suggested(project: TinyProject) -> None:
    assert suggested(project) == []


def test_only_a_file_that_was_judged_as_it_is_counts(judged: TinyProject) -> None:
    judged.experiment("small", "BATCH_SIZE = 5  # small #")
    assert names_of(judged) == ["narrow", "wide"]
    (judged.path / "experiments/narrow.py").unlink()
    assert names_of(judged) == ["wide"]


def test_without_evidence_a_file_must_change_what_the_ledger_says(judged: TinyProject) -> None:
    shutil.rmtree(judged.path / "results")
    assert "small" in names_of(judged)
    judged.experiment("small", "WIDTH = 5")
    assert "small" not in names_of(judged)


def test_what_met_todays_baseline_is_only_combined(judged: TinyProject) -> None:
    judge(judged, (1.8, 1.82), small=(1.79, 1.81), wide=(2.0, 2.0), narrow=(2.0, 2.0), retest=True)
    rows = [row for row in judged.rows if row["experiment"] == "narrow"]
    assert len(rows) == 2
    assert names_of(judged) == []  # `narrow` and `wide` were nothing on the new baseline; nothing is left for `small`


def test_a_pair_is_written_once_and_found_again(judged: TinyProject) -> None:
    pair = suggested(judged)[1]
    pair.write()
    text = pair.path.read_text()
    assert pair.path == judged.path / "experiments/narrow_and_small.py"
    assert text.splitlines()[0] == '"""narrow + small: Idea narrow. Idea small."""'
    again = suggested(judged)[1]
    assert again == replace(pair, text=None)
    again.write()
    assert pair.path.read_text() == text
    judge(judged, (1.8, 1.82), promote=False)
    assert "narrow_and_small" in [row["experiment"] for row in judged.rows]
    assert "narrow_and_small" not in names_of(judged)


def test_what_was_promoted_in_a_pair_is_not_applied_again(judged: TinyProject) -> None:
    path = judged.path / "baseline/cpu/train.py"
    path.write_text(path.read_text().replace("BATCH_SIZE = 8", "BATCH_SIZE = 8\nBATCH_SIZE = BATCH_SIZE // 2"))
    judged.experiment("small", "BATCH_SIZE = BATCH_SIZE // 2")
    shutil.rmtree(judged.path / "results")
    assert names_of(judged) == ["narrow", "wide"]


def test_a_pair_that_was_judged_under_another_name_is_not_suggested(judged: TinyProject) -> None:
    judged.experiment("other", "WIDTH = 8  # narrow #\nBATCH_SIZE = 4  # small #")
    judge(judged, (1.8, 1.82), promote=False)
    assert "narrow_and_small" not in names_of(judged)


def test_no_file_is_overwritten(judged: TinyProject) -> None:
    path = judged.experiment("narrow_and_small", "WIDTH = 9")
    before = path.read_text()
    pair = suggested(judged)[1]
    assert pair.name == "narrow_and_small_2"
    pair.path.symlink_to("nowhere.py")
    with pytest.raises(Exception, match=r"narrow_and_small_2\.py: cannot be written: File exists"):
        pair.write()
    assert suggested(judged)[1].name == "narrow_and_small_3"
    assert path.read_text() == before


@pytest.mark.parametrize(
    "body",
    [
        'TRACK = "cuda"\nBATCH_SIZE = 4  # small #',
        "BATCH_SIZE = 8",
        'GOAL = "simplify"\nBATCH_SIZE = 4  # small #',
        BASELINE + "# small #",
        "BATCH_SIZES = 4",
        "class",
    ],
    ids=["another track", "the baseline", "a simplification", "a complete program", "an unknown name", "no Python"],
)
def test_what_cannot_be_judged_as_an_idea_is_not_suggested(judged: TinyProject, body: str) -> None:
    shutil.rmtree(judged.path / "results")
    path = judged.path / "results.tsv"
    path.write_text(path.read_text().replace("BATCH_SIZE\t", "\t"))
    judged.experiment("small", body)
    assert names_of(judged) == ["narrow", "wide"]


def test_a_pair_in_which_one_idea_does_nothing_is_not_suggested(judged: TinyProject) -> None:
    path = judged.path / "experiments/small.py"
    model = (
        "def make_model(vocab_size):\n    return nn.Sequential(nn.Embedding(vocab_size, 4), nn.Linear(4, vocab_size))"
    )
    path.write_text(f"from baseline import *\n\n\n{model}\n")
    shutil.rmtree(judged.path / "results")
    ledger = judged.path / "results.tsv"
    ledger.write_text(ledger.read_text().replace("BATCH_SIZE\t", "\t"))
    assert names_of(judged) == ["narrow", "wide", "small"]  # with that model, WIDTH is the width of nothing
    path.write_text(path.read_text().replace("4", "2 * WIDTH"))
    assert "narrow_and_small" in names_of(judged)


def test_names_in_the_ledger_lead_to_no_other_folder(judged: TinyProject) -> None:
    shutil.rmtree(judged.path / "results")
    path = judged.path / "results.tsv"
    (judged.path / "small.py").write_text((judged.path / "experiments/small.py").read_text())
    path.write_text(path.read_text().replace("\tsmall\t", "\t../small\t"))
    assert names_of(judged) == ["narrow", "wide"]


# -- the simplification --


UNUSED = "\n\ndef forgotten(x):\n    return [x + number for number in range(100) if number % 7]\n"


def layered(project: TinyProject, more: str = UNUSED) -> None:
    """A baseline with something to fold."""
    write(project.path / "baseline/cpu/train.py", BASELINE + more)
    project.track("alpha = 0.05", "alpha = 0.05\nnoise = 0.01\nsimplify_margin = 0.02")


def test_the_folded_baseline_is_suggested_judged_and_promoted(project: TinyProject) -> None:
    layered(project)
    (found,) = suggested(project)
    assert (found.kind, found.name, found.gain) == ("simplification", "folded_1", 0.0)
    assert found.why == "119 tokens of code, the baseline has 136"
    found.write()
    text = found.path.read_text()
    assert text.startswith('"""The baseline without layers that promotions have left: ')
    assert "A bigram model.\n" in text
    assert '\n\nTRACK = "cpu"\nGOAL = "simplify"\n\nWIDTH' in text
    assert "forgotten" not in text
    assert suggested(project) == [replace(found, text=None)]
    night = judge(project)
    assert night.verdicts["folded_1"].outcome is Outcome.KEPT
    assert night.verdicts["folded_1"].delta == 0.0
    assert (project.path / "baseline/cpu/train.py").read_text() == text.replace(
        '\nTRACK = "cpu"\nGOAL = "simplify"\n', ""
    )
    assert suggested(project) == []


def test_a_folded_baseline_that_was_judged_is_not_suggested_again(project: TinyProject) -> None:
    layered(project)
    suggested(project)[0].write()
    judge(project, promote=False)
    assert suggested(project) == []


def test_another_baseline_is_folded_into_another_file(project: TinyProject) -> None:
    layered(project)
    suggested(project)[0].write()
    write(project.path / "baseline/cpu/train.py", BASELINE.replace("WIDTH = 16", "WIDTH = 17") + UNUSED)
    assert names_of(project) == ["folded_2"]


def test_without_a_margin_there_is_no_simplification(project: TinyProject) -> None:
    layered(project)
    layered_track = (project.path / "baseline/cpu/track.toml").read_text()
    write(project.path / "baseline/cpu/train.py", BASELINE + UNUSED)
    assert names_of(project) == ["folded_1"]
    write(project.path / "baseline/cpu/track.toml", layered_track.replace("simplify_margin = 0.02", ""))
    assert suggested(project) == []


def test_a_simplification_comes_last_or_not_at_all(judged: TinyProject) -> None:
    path = judged.path / "baseline/cpu/train.py"
    path.write_text(path.read_text() + UNUSED)
    found = names_of(judged)
    assert found[-1] == "folded_1"
    assert len(suggested(judged, len(found) - 1)) == len(found) - 1
    assert "folded_1" not in [each.name for each in suggested(judged, len(found) - 1)]


# -- a long history --


def test_few_files_are_read_however_long_the_history(judged: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(judged)
    (entry,) = [entry for entry in History.read(context.ledger, "cpu").verdicts if entry.experiment == "small"]
    entries = [
        replace(entry, experiment=f"idea{number}", delta=-0.01 - number / 1e6, program_sha=f"{number:064}")
        for number in range(10_000)
    ]
    for number in range(8_000, 9_000):
        judged.experiment(f"idea{number}", f"BATCH_SIZE = {number}\n")
    read: list[str] = []
    plain = module.plan.read

    def counted(context: Context, path: Path) -> Any:
        read.append(path.stem)
        return plain(context, path)

    monkeypatch.setattr(module.plan, "read", counted)
    found = suggest(context, History("cpu", tuple(entries)), 5)
    assert [each.name for each in found] == [f"idea{number}" for number in range(8_999, 8_994, -1)]
    assert len(read) <= 40


# -- the command --


@pytest.fixture
def popen(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run; each exits with 1."""
    commands: list[list[str]] = []

    class Process:
        def __init__(self, arguments: list[str], cwd: Path) -> None:
            commands.append(arguments)

        def __enter__(self) -> "Process":
            return self

        def __exit__(self, *_: object) -> None: ...

        def wait(self) -> int:
            return 1

    monkeypatch.setattr("pytest_autoresearch.cli.suggest.subprocess.Popen", Process)
    return commands


def test_the_command_prints_a_table_and_commands(judged: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(judged.path.rglob("*.py"))
    assert main(["suggest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["gain", "kind", "track", "cpu", "why"]
    assert lines[3].split()[:3] == ["0.0296", "pair", "narrow_and_small"]
    assert "pytest experiments/wide.py --ar-retest" in lines
    assert (
        "autoresearch new narrow_and_small --combine narrow small && pytest experiments/narrow_and_small.py --ar-retest"
        in lines
    )
    assert lines[-1] == "autoresearch suggest --run 5  # writes and judges the first ones"
    assert sorted(judged.path.rglob("*.py")) == before


def test_json(judged: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ar-track", "cpu", "suggest", "--json"]) == 0
    first, second, *_ = json.loads(capsys.readouterr().out)
    assert (first["kind"], first["file"], first["is_there"]) == ("kept", "experiments/narrow.py", True)
    assert first["command"] == "pytest experiments/narrow.py --ar-retest --ar-track cpu"
    assert (second["kind"], second["parts"], second["is_there"]) == ("pair", ["narrow", "small"], False)
    assert second["command"].startswith("autoresearch --ar-track cpu new narrow_and_small --combine narrow small && ")
    assert second["expected_gain"] == pytest.approx(0.0296, abs=1e-4)


def test_run_writes_the_first_ones_and_has_pytest_judge_them(judged: TinyProject, popen: list[list[str]]) -> None:
    assert main(["suggest", "--run", "2", "--", "-x", "--ar-no-promote"]) == 1
    files = [str(judged.path / f"experiments/{name}.py") for name in ("narrow", "narrow_and_small")]
    assert popen == [[sys.executable, "-m", "pytest", *files, "--ar-retest", "-x", "--ar-no-promote"]]
    assert Path(files[1]).exists()
    assert not (judged.path / "experiments/wide_and_small.py").exists()


def test_nothing_to_run(
    project: TinyProject, popen: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    assert main(["suggest", "--run", "2"]) == 0
    assert capsys.readouterr().out.startswith("track cpu: nothing to suggest")
    assert popen == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--run", "0"], "--run 0: must be at least 1"), (["--", "-x"], "-x: options for pytest need --run N")],
)
def test_mistakes_of_suggest(
    judged: TinyProject, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["suggest", *arguments]) == 2
    assert capsys.readouterr().err == f"autoresearch: {words}\n"


def test_names_are_escaped(judged: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(judged.path / "results")
    path = judged.path / "results.tsv"
    path.write_text(path.read_text().replace("\tsmall\t", "\tsm\x1b[2Jall\t"))
    (judged.path / "experiments/small.py").rename(judged.path / "experiments/sm\x1b[2Jall.py")
    assert main(["suggest"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"sm\x1b[2Jall" in out


def test_an_idea_without_a_test_counts_half(judged: TinyProject, recorded_entry: Callable[..., Any]) -> None:
    assert expected_gain(recorded_entry(delta=-0.02, p_value=None)) == pytest.approx(0.01)


@pytest.fixture
def recorded_entry(judged: TinyProject) -> Callable[..., Any]:
    entry = History.read(context_of(judged).ledger, "cpu").verdicts[0]
    return lambda **values: replace(entry, **values)
