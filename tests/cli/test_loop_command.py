"""`autoresearch loop`: its options, those for pytest, and what it refuses before anything begins."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeExecutor
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.cli import loop, main
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop import opening, pytest_options
from pytest_autoresearch.loop.limits import LoopOptions
from pytest_autoresearch.loop.presets import Preset, Usage
from pytest_autoresearch.plugin import settings

Started = dict[str, Any]


class Loop:
    """A project in which a loop is started; what it would be is in `started`, unless `checks`: then it only checks."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.executor = FakeExecutor(root, [2.0], {})
        self.executor.kind = "sandbox"
        self.says_dollars = True
        self.checks = False
        self.ends: Callable[[], int] = lambda: 0
        self.started: Started = {}
        self.environment = monkeypatch.setenv
        write(root / "baseline/cpu/track.toml", TRACK)
        write(root / "baseline/cpu/train.py", BASELINE)
        write(root / "baseline/other/track.toml", TRACK)
        write(root / "baseline/other/train.py", BASELINE)
        write(root / "pytest.ini", "[pytest]\nautoresearch_track = cpu\n")
        write(root / "text/0.txt", "a text\n")
        (root / "experiments").mkdir()
        monkeypatch.chdir(root)
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.setattr(loop, "LocalExecutor", lambda root: self.executor)
        monkeypatch.setattr(loop, "find_agent", self._agent)
        monkeypatch.setattr(loop, "open_display", lambda stream: None)
        monkeypatch.setattr(loop, "Supervisor", self._supervisor)

    def _agent(self, words: str) -> Preset:
        return Preset(words, (words,), (), lambda text: Usage(), self.says_dollars)

    def _supervisor(self, context: Context, agent: Preset, options: LoopOptions, display: object) -> Any:
        self.started = {"context": context, "agent": agent, "options": options}
        summary = ["gained 0.1", "look at rope"]

        class Fake:
            def __init__(self, ends: Callable[[], int]) -> None:
                self.run, self.summary = ends, summary

        if self.checks:
            opening.check(context, agent, options)
        return Fake(self.ends)

    def __call__(self, *arguments: str) -> int:
        return main(["loop", "--agent", "an agent", *arguments])

    @property
    def options(self) -> LoopOptions:
        return self.started["options"]

    @property
    def context(self) -> Context:
        return self.started["context"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(tmp_path, monkeypatch)


def test_it_starts_with_defaults_and_prints_the_summary(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    assert start() == 0
    assert start.options == LoopOptions()
    assert start.started["agent"].name == "an agent"
    assert capsys.readouterr().out == "gained 0.1\nlook at rope\n"


def test_every_option(start: Loop) -> None:
    words = "--experiments 12 --hours 0.5 --until 1.9 --patience 3 --cost 5 --ahead 0 --agents 2 -n 3 --commit"
    assert start(*words.split(), "--agent-timeout", "1.5", "--agent-sandbox", "--", "--ar-seeds", "3", "-q") == 0
    assert start.options == LoopOptions(
        experiments=12,
        hours=0.5,
        until=1.9,
        patience=3,
        dollars=5.0,
        ahead=0,
        agents=2,
        workers=3,
        commit=True,
        agent_timeout=90.0,
        agent_sandbox=True,
        pytest_options=("--ar-seeds", "3", "-q"),
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--experiments 0", "--experiments 0: must be a whole number of at least 1"),
        ("--experiments many", "--experiments many: must be a whole number of at least 1"),
        ("--ahead -1", "--ahead -1: must be a whole number of at least 0"),
        ("--agents 1.5", "--agents 1.5: must be a whole number of at least 1"),
        ("-n auto", "-n auto: must be a whole number of at least 1"),
        ("--hours 0", "--hours 0: must be a number above 0"),
        ("--hours inf", "--hours inf: must be a number above 0"),
        ("--until nan", "--until nan: must be a number above 0"),
        ("--cost -5", "--cost -5: must be a number above 0"),
        ("--agent-timeout 0", "--agent-timeout 0: must be a number above 0"),
    ],
)
def test_a_bad_number_is_one_line(start: Loop, capsys: pytest.CaptureFixture[str], words: str, line: str) -> None:
    assert start(*words.split()) == 2
    assert capsys.readouterr().err == f"autoresearch: {line}\n"
    assert not start.started


def test_the_exit_code_and_the_summary_of_a_loop_that_gave_up(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.ends = lambda: 1
    assert start() == 1

    def fails() -> int:
        raise UsageError("no such program: nonsense")

    capsys.readouterr()
    start.ends = fails
    assert start() == 2
    out, err = capsys.readouterr()
    assert out == "gained 0.1\nlook at rope\n"
    assert err == "autoresearch: no such program: nonsense\n"


# -- track, and options for pytest --


@pytest.mark.parametrize(
    "words", [["--track", "other"], ["--ar-track", "other"], ["--", "--ar-track", "other"], ["--", "--ar-track=other"]]
)
def test_the_track_can_be_named_in_several_places(start: Loop, words: list[str]) -> None:
    assert start(*words) == 0
    assert start.context.track.name == "other"
    assert "other" in " ".join(start.options.pytest_options)


def test_the_global_option_names_the_track_too(start: Loop) -> None:
    assert main(["--track", "other", "loop", "--agent", "x"]) == 0
    assert start.context.track.name == "other"


def test_each_option_of_the_plugin_is_read_or_refused() -> None:
    """A new option of pytest must not be one that the loop does not know."""
    options = re.findall(r'"(--ar-[a-z-]+)"', inspect.getsource(settings))
    read = re.findall(r'add_argument\("(--ar-[a-z-]+)"', inspect.getsource(pytest_options))
    assert sorted(set(options)) == sorted([*read, *(name for name in pytest_options.REFUSED if name[:5] == "--ar-")])


def test_two_tracks_are_refused(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--track", "cpu", "--", "--ar-track", "other") == 2
    assert "--track cpu and, for pytest, --ar-track other: give one of them" in capsys.readouterr().err


def test_the_loop_judges_by_the_options_of_pytest(start: Loop) -> None:
    words = ["--ar-budget", "20 steps", "--ar-seeds=3", "--ar-no-promote", "--ar-retest", "--ar-sandbox", "off"]
    assert start("--", *words, "-p", "no:cacheprovider", "--timeout", "30") == 0
    options = start.context.options
    assert (options.budget, options.seeds, options.promote, options.retest) == ("20 steps", 3, False, True)
    assert options.sandbox == "off"
    assert start.context.track.name == "cpu@20steps"


def test_later_options_decide(start: Loop) -> None:
    write(start.root / "pytest.ini", '[pytest]\naddopts = -q -k "a b" --ar-seeds 3 --ar-sandbox off\n')
    assert start() == 0
    assert (start.context.options.seeds, start.context.options.sandbox) == (3, "off")
    start.environment("PYTEST_ADDOPTS", "--ar-seeds 4")
    assert start() == 0
    assert start.context.options.seeds == 4
    assert start("--", "--ar-seeds", "5") == 0
    assert start.context.options.seeds == 5


def test_addopts_may_be_a_list(start: Loop) -> None:
    (start.root / "pytest.ini").unlink()
    write(start.root / "pytest.toml", '[pytest]\naddopts = ["--ar-sandbox", "off"]\n')
    assert start("--track", "cpu") == 0
    assert start.context.options.sandbox == "off"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--ar-rerun", "it would train again what is judged already"),
        ("--ar-record", "record the baseline first"),
        ("--ar-trials 3", "sweeps do not wait"),
        ("--ar-hours=3", "give the loop --hours"),
        ("-k rope", "chooses it"),
        ("-krope", "chooses it"),
        ("-n 4", "give the loop -n"),
        ("--co", "nothing would be judged"),
        ("--lf", "chooses it"),
        ("experiments", "chooses it"),
        ("rope.py", "chooses it"),
        ("experiments/rope.py::rope", "chooses it"),
    ],
)
def test_what_makes_no_sense_in_a_loop(start: Loop, capsys: pytest.CaptureFixture[str], words: str, why: str) -> None:
    assert start("--", *words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"autoresearch: {words.split()[0]}: not in a loop: ")
    assert why in error
    assert error.count("\n") == 1


def test_an_agent_of_a_loop_begins_none(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.environment("AUTORESEARCH_ROUND", "3")
    assert start() == 2
    assert capsys.readouterr().err.startswith("autoresearch: in a round of autoresearch loop: write the file and exit")
    assert not start.started


@pytest.mark.parametrize("words", ["--ar-seeds many", "--ar-sandbox maybe", "--ar-track"])
def test_a_bad_option_for_pytest_is_one_line(start: Loop, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert start("--", *words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("autoresearch: options for pytest: argument --ar-")
    assert error.count("\n") == 1


def test_options_for_pytest_need_the_dashes(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        start("--ar-seeds", "1")
    assert "unrecognized arguments: --ar-seeds; options for pytest follow behind `--`" in capsys.readouterr().err


# -- what is checked before it begins --


def test_what_pytest_does_not_understand_is_said_at_once(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.checks = True
    assert start("--", "--ar-seedz") == 2
    assert capsys.readouterr().err == "autoresearch: options for pytest: unrecognized arguments: --ar-seedz\n"


def test_it_says_that_agents_are_told_nothing(start: Loop) -> None:
    assert start() == 0
    lines = opening.opening_lines(start.context, start.started["agent"], start.options, 2.0, [])
    assert any(line.startswith("no program.md") for line in lines)
    write(start.root / "program.md", "# Goals\n")
    lines = opening.opening_lines(start.context, start.started["agent"], start.options, 2.0, [])
    assert not any("program.md" in line for line in lines)


def test_without_a_sandbox_it_wants_that_spelled_out(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.checks, start.executor.kind = True, "process"
    assert start() == 2
    assert "add `-- --ar-sandbox off` if that is meant" in capsys.readouterr().err
    assert start("--", "--ar-sandbox=off") == 0
    lines = opening.opening_lines(start.context, start.started["agent"], start.options, 2.0, [])
    assert any("without a sandbox, as asked" in line for line in lines)
    start.environment("PYTEST_ADDOPTS", "--ar-sandbox off")
    assert start() == 0
    assert start("--", "--ar-sandbox", "auto") == 2


def test_a_limit_in_dollars_needs_an_agent_that_says_them(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.checks, start.says_dollars = True, False
    assert start("--cost", "5") == 2
    assert "--cost 5: the agent an agent does not say what it costs in dollars" in capsys.readouterr().err
    assert start() == 0


def test_commits_need_a_repository(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.checks = True
    start.environment("GIT_CEILING_DIRECTORIES", str(start.root.parent))
    assert start("--commit") == 2
    assert "is not in a git repository" in capsys.readouterr().err


def test_a_broken_baseline_is_said_at_once(start: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    start.checks = True
    write(start.root / "baseline/cpu/train.py", "def train(:\n")
    assert start() == 2
    assert "baseline/cpu/train.py:1" in capsys.readouterr().err


def test_it_says_what_promotes_nothing(start: Loop) -> None:
    assert start("--", "--ar-seeds", "1") == 0
    lines = opening.opening_lines(start.context, start.started["agent"], start.options, None, ["a"])
    assert "nothing is promoted: --ar-seeds is below the track's 2" in lines
    assert "baseline baseline/cpu/train.py: has no record here yet, so it is recorded first" in lines
    assert start("--", "--ar-no-promote") == 0
    lines = opening.opening_lines(start.context, start.started["agent"], LoopOptions(agents=3, patience=1), None, [])
    assert "nothing is promoted: --ar-no-promote" in lines
    assert "agent an agent, 3 at once, at most 30 min a session" in lines
    assert "until 1 verdict in a row without a keep or Ctrl-C" in lines
    assert "nothing waits" in lines
