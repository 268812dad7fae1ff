"""A night for real: every outcome, every message, promotion and replay, with candidates that begin as users' do."""

import json
import re
from collections.abc import Callable

import pytest
from tiny_project import TinyProject, program, write

from pytest_autoresearch.core.records import Outcome

pytestmark = pytest.mark.real_process

Outcomes = Callable[[pytest.RunResult], dict[str, str]]


def test_every_outcome_and_two_sessions(project: TinyProject, outcomes: Outcomes) -> None:
    project.track('limit = "60 s"', 'limit = "10 s"')
    project.experiment("fastest", "LEARNING_RATE = 0.05", "A high rate\tfrom the start")
    project.experiment("faster", "LEARNING_RATE = LEARNING_RATE * 10")
    project.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    for name, source in {
        "crashes": program("run.save('half.txt', b'half')\n        raise ValueError('five')"),
        "asks_too_much": program("torch.empty(10**15)"),
        "diverges": program("loss = loss * float('nan')"),
        "looks_ahead": program(result="lambda t: torch.nn.functional.one_hot(t.roll(-1, 1), run.vocab_size) * 9.0"),
        "hangs": program("while True: pass"),
    }.items():
        write(project.path / f"experiments/{name}.py", source)

    first = project.run()
    first.assert_outcomes(passed=2, failed=6)
    words = {
        "fastest": "KEPT",
        "faster": "KEPT",
        "slower": "DISCARDED",
        "crashes": "CRASHED ValueError: five",
        "asks_too_much": "OUT OF MEMORY 4,000,000 GB asked",
        "diverges": "DIVERGED loss is nan in step 1",
        "looks_ahead": "DISQUALIFIED logits depend on tokens that come later",
        "hangs": "TIMED OUT still training",
    }
    said = outcomes(first)
    assert [name for name, word in words.items() if not said[name].startswith(word)] == []
    assert {row["verdict"] for row in project.rows} == set(Outcome) - {Outcome.TRIED}
    (saved,) = project.path.glob("results/cpu/crashes-*/seed-0/saved/half.txt")
    assert saved.read_bytes() == b"half"
    (evidence,) = project.path.glob("results/cpu/fastest-*")
    assert {path.name for path in (evidence / "seed-1").iterdir()} == {"program.py", "log.txt", "result.json"}
    assert (project.path / "baseline/cpu/train.py").read_text() == (evidence / "seed-0/program.py").read_text()
    rows = {row["experiment"]: row for row in project.rows}
    assert rows["fastest"]["description"] == "A high rate from the start."
    assert rows["slower"]["runs"] == "1"
    kept = [float(row["val_bpb"]) for row in project.rows if row["status"] == "keep"]
    assert kept == sorted(kept, reverse=True)

    second = project.run()
    assert re.match(r"(KEPT|DISCARDED) \d", outcomes(second)["faster"])  # outrun, and now tried on the new baseline
    assert outcomes(second)["fastest"].startswith("UNCHANGED: the program equals the baseline")
    assert outcomes(second)["slower"].startswith("SKIPPED: discarded against an earlier baseline")


def test_the_same_seed_twice_gives_the_same_score(recorded: TinyProject) -> None:
    recorded.experiment("slower", "LEARNING_RATE = LEARNING_RATE / 10")
    scores, trained = [], []
    for arguments in ((), ("--ar-rerun",)):
        recorded.run("--ar-seeds", "1", *arguments)
        (path,) = recorded.path.glob("results/cpu/slower-*/seed-0/result.json")
        scores.append(json.loads(path.read_text())["val_bpb"])
        trained.append(path.stat().st_mtime_ns)
    assert scores[0] == scores[1]
    assert trained[0] < trained[1]
