"""Which changes are nearly the same, and which only look alike."""

from itertools import combinations
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.search_space import has_search_space
from pytest_autoresearch.programs.similar import Change, similarity
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).parents[2]
BASELINE = """
RATE, BETA = 1e-3, 0.9
DEPTH = 4

def activation(x):
    return F.gelu(x)

class Block(Module):
    def forward(self, x):
        h = self.norm(x)
        h = self.attention(h)
        x = x + h
        h = self.mlp(x)
        return x + h
"""


def likeness(one: str, other: str, baseline: str = BASELINE) -> float:
    """The similarity of two overlays on the baseline."""
    programs = [splice(baseline, f"from baseline import *\n{overlay}\n") for overlay in (one, other)]
    return similarity(*(Change.of(baseline, program, changed_names(baseline, program)) for program in programs))


SILU = "def activation(x):\n    gate = F.sigmoid(x)\n    return x * gate"


@pytest.mark.parametrize(
    "twin",
    [
        "def activation(x):\n    '''SiLU.'''\n    s = F.sigmoid(x)  # gate\n    return x * s",
        "def activation(inputs: Tensor) -> Tensor:\n    s: Tensor = F.sigmoid(inputs)\n    return inputs * s",
        SILU.replace("gate", "g"),
    ],
)
def test_names_of_locals_docstrings_and_annotations_do_not_count(twin: str) -> None:
    assert likeness(SILU, twin) == 1.0


@pytest.mark.parametrize(
    "other",
    [
        "def activation(x):\n    gate = F.tanh(x)\n    return x * gate",
        "def activation(x):\n    gate = F.sigmoid(x)\n    return gate * gate",
        "def activation(x):\n    global gate\n    gate = F.sigmoid(x)\n    return x * gate",
        "def activation(x):\n    return F.relu(x)",
        "RATE = 2e-3",
    ],
)
def test_what_differs_is_no_twin(other: str) -> None:
    assert likeness(SILU, other) < 0.8


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("DEPTH = 5", "DEPTH = 6", False),
        ("DEPTH = 50", "DEPTH = 55", True),
        ("RATE = 2 * RATE", "RATE = 2.1 * RATE", True),
        ("RATE = 2e-3", "RATE = 4e-3", False),
        ("BETA = 0.95", "BETA = 0.99", False),  # a hundred steps against twenty
        ("BETA = 0.95", "BETA = 0.953", True),
        ("RATE = 2e-3", "BETA = 2e-3", False),
    ],
)
def test_numbers_that_are_near_count_as_the_same(one: str, other: str, near: bool) -> None:
    assert (likeness(one, other) >= 0.8) is near


def test_only_what_differs_from_the_baseline_counts() -> None:
    """Both put a line above many that stay, and that a new local above them would renumber."""
    block = "class Block(Module):\n    def forward(self, x):\n        {}\n" + "".join(
        f"        {line.strip()}\n" for line in BASELINE.split("def forward(self, x):\n")[1].splitlines()
    )
    assert likeness(block.format("y = scale(x)"), block.format("z = shift(x)")) < 0.8
    assert likeness(block.format("y = scale(x)"), block.format("z = scale(x)")) == 1.0


def test_what_every_layer_has_does_not_count() -> None:
    layer = """class Block(Block):
    def __init__(self, x):
        super().__init__(x)
    @torch.no_grad()
    def forward(self, x):
        return {}(super().forward(x))"""
    assert likeness(layer.format("one"), layer.format("other")) == 0.0


def test_the_same_change_to_another_baseline_is_a_twin() -> None:
    later = BASELINE.replace("DEPTH = 4", "DEPTH = 6")
    changes = []
    for baseline in (BASELINE, later):
        program = splice(baseline, f"from baseline import *\n{SILU}\n")
        changes.append(Change.of(baseline, program, ["activation"]))
    assert similarity(*changes) == 1.0


def test_most_lines_in_common_are_enough() -> None:
    lines = [f"    x = step_{name}(x)" for name in "abcdefghij"]
    one = "def activation(x):\n" + "\n".join(lines) + "\n    return x"
    assert 0.8 < likeness(one, one.replace("step_c", "other")) < 1.0
    assert likeness(one, one.replace("step_c", "o").replace("step_d", "o2").replace("step_e", "o3")) < 0.8


@pytest.mark.parametrize("track", ["cpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_no_two_of_the_experiments_that_come_along_are_twins(track: str) -> None:
    baseline = (ROOT / f"baseline/{track}/train.py").read_text(encoding="utf-8")
    changes = {}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        if has_search_space(path.read_text(encoding="utf-8")):
            continue  # its points are programs; it is none
        try:
            program = read_experiment(path, path.parent).program(baseline, "train.py").source
        except UsageError:  # of the other track
            continue
        names = changed_names(baseline, program)
        changes[path.stem] = Change.of(baseline, program, names)
    assert len(changes) > 20
    pairs = {pair: similarity(changes[pair[0]], changes[pair[1]]) for pair in combinations(changes, 2)}
    assert {pair: share for pair, share in pairs.items() if share > 0.5} == {}
