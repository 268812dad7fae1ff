"""`autoresearch show --evidence`: all that is known of one experiment."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes import FakeExecutor, failed, result
from tiny_project import TinyProject

from pytest_autoresearch.cli import main
from pytest_autoresearch.cli.evidence import Run, blocks, curve_lines, ends
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.evidence import Evidence

Say = Callable[..., str]


@pytest.fixture
def judged(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A project with a discarded experiment, `wide`, whose evidence has curves and a log."""
    project.idea("wide", doc="Wider")
    executor = project.fake(wide=[result(0, 2.3, curve=[4.0, None, 3.0])])
    project.night(executor)
    (folder,) = project.path.glob("results/cpu/wide-*")
    (folder / "seed-0/log.txt").write_text("".join(f"line {n}\n" for n in range(12)) + "\x1b[31mautoresearch: KEPT\n")
    (baseline,) = project.path.glob("results/cpu/baseline-*/seed-0")
    (baseline / "result.json").write_text(json.dumps({"curve": [5.0, 3.5, 1.0]}))
    monkeypatch.chdir(project.path)
    return project


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(name: str, *options: str) -> str:
        assert main(["show", "--evidence", name, *options]) == 0
        return capsys.readouterr().out

    return run


def test_verdict_patch_curves_and_the_end_of_the_log(judged: TinyProject, say: Say) -> None:
    lines = say("wide").splitlines()
    assert lines[0].startswith("wide on track cpu, 20")
    assert lines[1] == "DISCARDED 2.3000 against 2.0000 on seed 0 (+0.3000, p 0.99) not below the baseline"
    (folder,) = judged.path.glob("results/cpu/wide-*")
    assert f"program: results/cpu/{folder.name}/seed-0/program.py" in lines
    assert "patch against the baseline that it met, the first:" in lines
    assert any(line.startswith("+WIDTH = ") for line in lines)
    at = lines.index("training loss over the budget, in nats per token:")
    assert [line.rstrip() for line in lines[at + 1 : at + 3]] == [
        "  seed 0    ▇ ▅  4.000 → 3.000",
        "  baseline  █▆▁  5.000 → 1.000",
    ]
    assert lines[at + 4].endswith("seed-0/log.txt")
    assert lines[at + 5 :] == [*[f"| line {n}" for n in range(3, 12)], r"| \x1b[31mautoresearch: KEPT"]


@pytest.mark.parametrize("name", ["wide.py", "experiments/wide.py", "experiments/wide.py::wide"])
def test_names_as_elsewhere_and_without_its_file(judged: TinyProject, say: Say, name: str) -> None:
    (judged.path / "experiments/wide.py").unlink()
    assert say(name).startswith("wide on track cpu")


def test_earlier_verdicts_are_one_line_each(judged: TinyProject, say: Say) -> None:
    judged.night(FakeExecutor(judged.path, (2.0, 2.02), {"# wide #": [2.4]}), rerun=True)
    judged.idea("wide", "LEARNING_RATE = 2e-3")
    judged.night(FakeExecutor(judged.path, (2.0, 2.02), {"# wide #": [failed(Outcome.CRASHED, "ValueError: five")]}))
    lines = say("wide").splitlines()
    assert lines[0][16:].startswith(" DISCARDED 2.")
    assert lines[lines.index("") + 2] == "CRASHED ValueError: five"
    assert "+LEARNING_RATE = 2e-3" in lines


def test_what_is_gone_is_said(judged: TinyProject, say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    for path in judged.path.glob("results/cpu/baseline-*"):
        shutil.rmtree(path)
    train = judged.path / "baseline/cpu/train.py"
    train.write_text(train.read_text() + "# another\n")
    for path in judged.path.glob("results/cpu/wide-*/seed-0/log.txt"):
        path.unlink()
    said = say("wide")
    assert "patch: none, because the baseline that it met, the first, is no longer there" in said
    assert "seed-0/log.txt, which is no longer there" in said
    assert "baseline  " not in said
    for path in judged.path.glob("results/cpu/wide-*/seed-0"):
        shutil.rmtree(path)
    assert "program: no longer there\npatch: none, because it is no longer there" in say("wide")
    for path in judged.path.glob("results/cpu/wide-*"):
        shutil.rmtree(path)
    assert main(["show", "--evidence", "wide"]) == 2
    assert capsys.readouterr().err == (
        "autoresearch: wide: its evidence is gone from results/; `autoresearch history --trials` lists all\n"
    )


def test_trials_are_shown_by_their_seed(judged: TinyProject, say: Say) -> None:
    evidence = Evidence(judged.path)
    (verdict,) = evidence.verdicts("cpu", "wide")
    name = "sweep[07]"
    folder = evidence.of("cpu", name, verdict.program_sha)
    shutil.copytree(judged.path / verdict.evidence / "seed-0", folder / "seed-1000000")
    path = folder.relative_to(judged.path).as_posix()
    evidence.save(replace(verdict, experiment=name, outcome=Outcome.TRIED, evidence=path, key="trial"))
    said = say(name)
    assert "TRIED 2.3000" in said
    assert "\n  search seed  ▇▁" not in said
    assert "\n  search seed  █▁" in said
    assert f"program: {path}/seed-1000000/program.py" in said


def test_another_track_is_found(judged: TinyProject, say: Say) -> None:
    judged.night(FakeExecutor(judged.path, (2.0,), {"# narrow #": [2.1]}), seeds=1, budget="4 steps")
    judged.idea("narrow")
    judged.night(FakeExecutor(judged.path, (2.0,), {"# narrow #": [2.1]}), seeds=1, budget="4 steps")
    assert say("narrow").startswith("narrow on track cpu@4steps")


def test_a_quick_look_is_found_by_the_name_of_its_track(
    judged: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.night(FakeExecutor(judged.path, (2.0,), {"# wide #": [2.1]}), seeds=1, budget="4 steps")
    assert main(["--track", "cpu@4steps", "show", "--evidence", "wide"]) == 0
    assert capsys.readouterr().out.startswith("wide on track cpu@4steps")
    assert main(["--track", "cpu@4steps", "show", "--evidence", "q"]) == 2
    assert "`autoresearch --track cpu@4steps history --trials` lists all" in capsys.readouterr().err


def test_json(judged: TinyProject, say: Say) -> None:
    document = json.loads(say("wide", "--json"))
    assert document.keys() == {"verdicts", "baseline", "path", "patch", "runs", "log_path", "log"}
    assert document["verdicts"][-1]["outcome"] == "discarded"
    assert document["runs"] == [{"seed": 0, "program": [4.0, None, 3.0], "baseline": [5.0, 3.5, 1.0]}]


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--evidence", "wid"], "wid: no verdict on track cpu; did you mean `wide`?"),
        (["--evidence", "q"], "q: no verdict on track cpu; `autoresearch history --trials` lists all"),
        (["wide", "--json"], "--json: only what `show --evidence` prints is there as JSON"),
    ],
)
def test_mistakes_are_one_line_each(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    assert capsys.readouterr().err == f"autoresearch: {words}\n"


def test_the_curve_of_few_steps_has_no_gaps() -> None:
    run = Run(0, [5.0, None, None, None, 3.0, None, None, None, 1.0, None], None)
    assert curve_lines(run) == ["  seed 0  █▅▁  5.000 → 1.000"]


def test_curves() -> None:
    assert blocks([8.0, 4.5, 1.0], 1.0, 8.0) == "█▅▁"
    assert blocks([None, 1.0], 1.0, 1.0) == " ▁"
    assert blocks([float(n) for n in range(100, 0, -1)], 1.0, 100.0, width=4) == "█▆▃▁"
    assert (ends([None, 2.0, 1.0, None]), ends([None])) == ("2.000 → 1.000", "no loss")
