"""An edited program becomes an experiment whose program is the edited one."""

from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.compare import same_program, unified_diff
from pytest_autoresearch.programs.edit import experiment_from_edit
from pytest_autoresearch.programs.experiment import Experiment

ROOT = Path(__file__).parents[2]
SHIPPED = {track: (ROOT / f"baseline/{track}/train.py").read_text() for track in ("cpu", "cuda")}


def experiment_of(old: str, edited: str, track: str = "cpu") -> Experiment:
    return experiment_from_edit(old, edited, Path("experiments/my_edit.py"), Path("experiments"), track)


def replaced(source: str, old: str, new: str) -> str:
    assert old in source, old
    return source.replace(old, new, 1)


BOTH = {
    "a constant": ("WEIGHT_DECAY = 0.", "WEIGHT_DECAY = 1."),
    "two constants": ("DEPTH = ", "DEPTH = 2 + "),
    "a function": (
        "def schedule(progress: float) -> float:\n",
        "def schedule(progress: float) -> float:\n    progress /= 2\n",
    ),
    "a parameter": ("def activation(x: Tensor)", "def activation(x: Tensor, y: int = 0)"),
    "a method": (
        "        return self.out(activation(self.up(x)))\n",
        "        return self.out(-activation(self.up(x)))\n",
    ),
    "a new method": (
        "class Block(nn.Module):\n",
        "class Block(nn.Module):\n    def more(self) -> int:\n        return 1\n\n",
    ),
    "an import": ("from pytest_autoresearch import Run\n", "from pytest_autoresearch import Run\nimport itertools\n"),
    "an imported name": ("from torch import Tensor, nn\n", "from torch import Tensor, jit, nn\n"),
    "a class that another uses": (
        "class MLP(nn.Module):\n",
        "class Base(nn.Module):\n    pass\n\n\nclass MLP(Base):\n",
    ),
    "a constant that a function uses": (
        "def activation(x: Tensor) -> Tensor:\n",
        "SLOPE = 2.0  # of the activation\n\n\ndef activation(x: Tensor) -> Tensor:\n    x = SLOPE * x\n",
    ),
    "a second layer": ("\ndef init_weights", "\nclass GPT(GPT):\n    pass\n\n\ndef init_weights"),
}


@pytest.mark.parametrize(
    ("track", "what"),
    [*(("cpu", what) for what in BOTH), ("cuda", "a new method"), ("cuda", "a constant that a function uses")],
)
def test_changed_statements_become_an_overlay(track: str, what: str) -> None:
    old = SHIPPED[track]
    edited = replaced(old, *BOTH[what])
    experiment = experiment_of(old, edited, track)
    assert experiment.is_overlay
    assert experiment.track == track
    assert same_program(experiment.program(old, "train.py").source, edited)
    assert len(experiment.source) < len(old) / 3, "only the statements that differ"


def test_a_new_import_in_its_place_by_the_alphabet_is_an_overlay() -> None:
    """A splice puts it below the others. Nothing else may stand elsewhere."""
    edited = replaced(SHIPPED["cpu"], "import math\n", "import itertools\nimport math\n")
    experiment = experiment_of(SHIPPED["cpu"], replaced(edited, *BOTH["a constant"]))
    assert experiment.is_overlay
    assert "import itertools\n" in experiment.source
    assert not experiment_of(SHIPPED["cpu"], moved(edited, "BATCH_SIZE = ", "DEPTH = ")).is_overlay


COMPLETE = {
    "a function is removed": lambda source: source.replace(statement(source, "def schedule"), ""),
    "a function has another name": lambda source: source.replace("schedule", "plan"),
    "constants in another order": lambda source: moved(source, "BATCH_SIZE = ", "DEPTH = "),
    "imports in another order": lambda source: moved(source, "import torch\n", "import math\n"),
    "a name that nothing uses": lambda source: source + "\n\ndef helper():\n    return 1\n",
}


def moved(source: str, beginning: str, above: str) -> str:
    """The source with one line moved above another."""
    begin = source.index(f"\n{beginning}") + 1
    line = source[begin : source.index("\n", begin) + 1]
    return source.replace(line, "", 1).replace(f"\n{above}", f"\n{line}{above}", 1)


def statement(source: str, beginning: str) -> str:
    """The text of a function, up to the next statement."""
    begin = source.index(f"\n{beginning}") + 1
    return source[begin : source.index("\n\n\n", begin) + 3]


@pytest.mark.parametrize(("track", "what"), [*(("cpu", what) for what in COMPLETE), ("cuda", "a function is removed")])
def test_other_edits_become_a_complete_program(track: str, what: str) -> None:
    old = SHIPPED[track]
    edited = COMPLETE[what](old)
    experiment = experiment_of(old, edited, track)
    assert not experiment.is_overlay
    assert same_program(experiment.source, edited)
    assert experiment.description.startswith("My edit: A ")
    lines = unified_diff(edited, experiment.source).splitlines()[2:]
    assert sum(line[0] in "+-" for line in lines) == 2, "all but the first line is as it was edited"


OLD = "# top\nA = 1  # one\n\n# about B\nB = 2\n\n\ndef train(run):\n    # inside\n    return A + B\n"


def test_the_overlay_has_the_edited_statements_and_comments() -> None:
    edited = OLD.replace("# one", "# uno").replace("about B", "more about B").replace("B = 2", "B = 3  # three")
    assert experiment_of(OLD, edited).source == (
        '"""My edit: changes B"""\n\nfrom baseline import *\n\nTRACK = "cpu"\n\n'
        "A = 1  # uno\n# more about B\nB = 3  # three\n"
    )
    inside = experiment_of(OLD, edited.replace("inside", "within"))
    assert "    # within\n" in inside.program(OLD, "train.py").source


def test_comments_that_are_there_are_not_repeated() -> None:
    experiment = experiment_of(OLD, OLD.replace("B = 2", "B = 3"))
    assert "about" not in experiment.source
    assert experiment.program(OLD, "train.py").source == OLD.replace("B = 2", "B = 3")


def test_a_program_that_reads_its_own_text_stays_as_it_is() -> None:
    edited = OLD.replace("return A", "print(__doc__)\n    return A").replace("B = 2\n", "")
    assert experiment_of(OLD, edited).source == edited


def test_what_is_too_large_for_an_experiment() -> None:
    long = OLD.replace("B = 2", "# long\n" * 10_000)
    with pytest.raises(UsageError, match=r"my_edit\.py: 7\d+ bytes of source; an experiment has at most 64000"):
        experiment_of(OLD, long)


def test_comments_at_the_end_come_along() -> None:
    old = "WIDTH = 4\n\n\ndef train(run):\n    return WIDTH\n\n# old\n"
    edited = replaced(old, "4", "5") + "# why 5\n"
    assert "# why 5" in experiment_of(old, edited).source
    assert "# old" not in experiment_of(old, replaced(old, "4", "5")).source
