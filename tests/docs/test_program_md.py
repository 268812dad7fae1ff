"""program.md, with which an agent does research: short, complete, and its examples work on the shipped baseline."""

import re
import shutil
from pathlib import Path

import pytest

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging import plan
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.referee.local import LocalExecutor
from pytest_autoresearch.research.brief_text import token_bound

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "program.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A project with the shipped baseline and the examples as its only experiments."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "baseline", root / "baseline")
    (root / "experiments").mkdir()
    for number, text in enumerate(EXAMPLES):
        (root / f"experiments/example_{number}.py").write_text(text, encoding="utf-8")
    project = Project(root, root / "experiments", root / "baseline")
    return Context(project, Options(track="cpu"), LocalExecutor(root))


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) < 150
    assert token_bound(PAGE) < 5000, "it is a part of every prompt"


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_is_worth_a_run(context: Context, number: int) -> None:
    """It is read, spliced, differs from the baseline, and nothing in its line would have to be explained."""
    experiment, program = plan.read(context, context.project.experiments / f"example_{number}.py")
    assert not plan.note_on(context, experiment, program)
    assert len(experiment.description) > 20
    compile(program.source, "program", "exec")


def test_the_examples_show_every_way_to_write_one() -> None:
    overlays = [text for text in EXAMPLES if "from baseline import *" in text]
    assert len(EXAMPLES) - len(overlays) == 1, "a complete program"
    for way in (r"^[A-Z_]+ = .*\b[A-Z_]+", r"^def ", r"^class (\w+)\(\1\)", r"^old_(\w+) = \1$"):
        assert any(re.search(way, text, re.MULTILINE) for text in overlays), way


def test_each_outcome_is_explained() -> None:
    words = re.findall(r"^\| ([A-Z ]+) \|", PAGE.partition("## How to read a verdict")[2], re.MULTILINE)
    assert sorted(words) == sorted([*(outcome.upper() for outcome in Outcome), "UNCHANGED", "SKIPPED"])


def test_it_says_how_an_agent_knows_that_it_is_in_a_round() -> None:
    assert "`AUTORESEARCH_ROUND` is set" in PAGE
    assert all(name in PAGE for name in ("`idea.txt`", "`ideas.md`", "- [ ]", "- [x]"))
    assert PAGE.index("## Goals") < PAGE.index("## An experiment is two actions"), "what people edit comes first"


def test_agents_md_points_to_it() -> None:
    text = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 15
    assert "(program.md)" in text
