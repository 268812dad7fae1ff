"""Sweeps in real sessions: what pytest collects, two workers that share a study, a kill in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from unittest.mock import Mock

from tiny_project import BASELINE, TinyProject

from pytest_autoresearch.judging.trial import SEARCH_SEED
from pytest_autoresearch.plugin import settings
from pytest_autoresearch.research.study import SAMPLERS
from pytest_autoresearch.research.sweep import SweepOptions

SPACE = """
SEARCH_SPACE = {
    "LEARNING_RATE": log(1e-2, 1e-1),
    "BATCH_SIZE": [4, 8, 16],
}
CONSTRAINTS = ["BATCH_SIZE * SEQUENCE_LENGTH <= 128"]
"""


def runs(project: TinyProject) -> list[str]:
    """The programs that were tried on the search seed, by the hash of their text: one for each run."""
    folders = project.path.glob(f"results/cpu/*/seed-{SEARCH_SEED}/result.json")
    return [folder.parent.parent.name.rpartition("-")[2] for folder in folders]


def started(project: TinyProject) -> list[list[str]]:
    """What each study of the journal has begun: the values of its trials, as text."""
    studies: dict[int, list[str]] = {}
    for journal in project.path.glob("results/cpu/*.journal"):
        for line in journal.read_text().splitlines():
            entry = json.loads(line)
            if entry["op_code"] == 4:  # a trial
                studies.setdefault(entry["study_id"], []).append(json.dumps(entry["user_attrs"], sort_keys=True))
    return list(studies.values())


def test_collecting_a_sweep_imports_neither_torch_nor_optuna(project: TinyProject) -> None:
    project.experiment("sweep", SPACE)
    project.experiment("plain", "WIDTH = 3")
    command = [sys.executable, "-X", "importtime", "-m", "pytest", "-p", "no:cacheprovider", "--co", "-q"]
    done = subprocess.run(
        [*command, "--ar-trials", "2", "experiments"], cwd=project.path, capture_output=True, text=True
    )
    assert re.findall("(?m)^experiments.*", done.stdout) == [
        "experiments/plain.py::plain",
        "experiments/sweep.py::sweep[01]",
        "experiments/sweep.py::sweep[02]",
        *[f"experiments/sweep.py::sweep[finalist-{rank}]" for rank in (1, 2, 3)],
    ]
    assert not re.search(r"\|\s+(torch|optuna|numpy)$", done.stderr, re.MULTILINE)


def test_the_option_names_every_sampler() -> None:
    """pytest reads the options in every project, so their choices are written out and not imported."""
    parser = Mock()
    settings.pytest_addoption(parser)
    options = {call.args[0]: call.kwargs for call in parser.getgroup.return_value.addoption.call_args_list}
    assert tuple(options["--ar-sampler"]["choices"]) == SAMPLERS
    assert options["--ar-sampler"]["default"] == SweepOptions().sampler
    assert options["--ar-finalists"]["default"] == SweepOptions().finalists


def test_two_workers_share_one_study_and_try_nothing_twice(recorded: TinyProject) -> None:
    """Trained for real. The last items come first, so that finalists wait for trials of the other worker."""
    recorded.experiment("sweep", SPACE)
    recorded.pytester.makeconftest("def pytest_collection_modifyitems(items): items.reverse()")
    done = recorded.pytester.runpytest_subprocess(
        "experiments", "-n", "2", "--ar-trials", "4", "--ar-finalists", "1", "--dist", "worksteal"
    )
    print(done.stdout.str())
    (study,) = started(recorded)
    assert sorted(json.loads(attributes)["item"] for attributes in study) == [1, 2, 3, 4]
    assert max(Counter(runs(recorded)).values()) == 1
    rows = Counter((row["program_sha"], row["experiment"]) for row in recorded.rows if "[0" in row["experiment"])
    assert len(rows) == 4
    assert max(rows.values()) == 1
    promoted = (recorded.path / "baseline/cpu/train.py").read_text()
    assert re.search("(?m)^promoted sweep", done.stdout.str())
    assert [a for a, b in zip(promoted.splitlines(), BASELINE.splitlines(), strict=True) if a != b]
    shape = [re.sub(r"(?m)^(LEARNING_RATE|BATCH_SIZE) = [\d.e-]+", r"\1 = …", text) for text in (promoted, BASELINE)]
    assert shape[0] == shape[1]


def test_a_killed_sweep_goes_on_where_it_was(recorded: TinyProject) -> None:
    recorded.experiment("sweep", SPACE)
    command = [sys.executable, "-m", "pytest", "experiments", "-p", "no:cacheprovider"]
    command += ["--ar-trials", "4", "--ar-finalists", "1", "--ar-no-promote"]
    process = subprocess.Popen(command, cwd=recorded.path, stdout=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 60
    while not list(recorded.path.glob("results/cpu/sweep[[]02]-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = recorded.seeds_trained()
    (begun,) = started(recorded)
    done = recorded.run(*command[4:])
    assert re.search(r"4 trials \(tpe\), [12] done", done.stdout.str())
    assert {path: when for path, when in recorded.seeds_trained().items() if path in before} == before
    (study,) = started(recorded)
    assert study[: len(begun)] == begun
    values = {json.loads(each)["item"]: json.loads(each)["values"] for each in study}
    assert set(values) == {1, 2, 3, 4}
    assert len({json.dumps(each) for each in values.values()}) == 4
    assert all(json.loads(each)["values"] == values[json.loads(each)["item"]] for each in study)
    assert max(Counter(runs(recorded)).values()) == 1
    assert not list(recorded.path.rglob("*.tmp"))


def test_what_a_trial_prints_is_quoted_and_its_evidence_named(recorded: TinyProject) -> None:
    recorded.experiment("sweep", f'{SPACE}\ndef make_model(vocab_size):\n    raise RuntimeError("no\\nKEPT")')
    done = recorded.run("--ar-trials", "1", "--ar-finalists", "0")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*sweep.py [[]01] CRASHED LEARNING_RATE=* BATCH_SIZE=*: *"])
    done.stdout.re_match_lines([r"see results/cpu/sweep\[01\]-\w{7}$"])
