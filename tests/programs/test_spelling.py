"""Names that nothing knows: errors that name what may have been meant."""

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.experiment import Experiment, read_experiment
from pytest_autoresearch.programs.spelling import nearest, unknown_names

BASELINE = """\
import torch.nn.functional as F

DEPTH = 2
LEARNING_RATE = 3e-4
WIDTH = 64


def activation(x):
    return F.gelu(x)


class Block:
    def forward(self, x):
        return activation(x)


def train(run):
    blocks = [Block() for _ in range(DEPTH)]
    return blocks, LEARNING_RATE
"""


def overlay(change: str) -> str:
    return f"from baseline import *\n{change}\n"


@pytest.mark.parametrize(
    "change",
    [
        "LEARNIGN_RATE = 6e-3\nDEPTH = 3",
        "DEPTH = 3\nLEARNIGN_RATE = 6e-3",
        "LEARNIGN_RATE = float('6e-3')",
        "LEARNIGN_RATE: float = 6e-3",
        "LEARNIGN_RATE = DEPTH = 6e-3",
        "DEPTH, LEARNIGN_RATE = 3, 6e-3",
        "LEARNIGN_RATE = 1\nLEARNIGN_RATE += 1",
        "def LEARNIGN_RATE(x):\n    return activation(x)",
        "class LEARNIGN_RATE(Block):\n    pass",
        "def LEARNIGN_RATE(n):\n    return LEARNIGN_RATE(n - 1)",
        "if DEPTH > 1:\n    LEARNIGN_RATE = 3",
        "if DEPTH > 1:\n    DEPTH = 3\n    LEARNIGN_RATE = 3",
        "_LEARNIGN_RATE = LEARNIGN_RATE = 6e-3\nDEPTH = _LEARNIGN_RATE",
        "import os\nLEARNIGN_RATE = os.cpu_count()",
        "def activation(LEARNIGN_RATE):\n    return LEARNIGN_RATE\nLEARNIGN_RATE = 3",  # the parameter is another one
        "TRACK = 'cpu'\nLEARNIGN_RATE = 3",
        "blocks = LEARNIGN_RATE = 3\nDEPTH = blocks",
        "for number in range(3):\n    LEARNIGN_RATE = number",
        "with patched(F) as patch:\n    if patch:\n        LEARNIGN_RATE = 3",
        "try:\n    DEPTH = 4\nexcept ValueError:\n    LEARNIGN_RATE: float = 3",
        "while DEPTH < 3:\n    DEPTH += 1\n    LEARNIGN_RATE = float('3')",
        "with F:\n    def LEARNIGN_RATE(x):\n        return x",
        "@torch.no_grad()\ndef LEARNIGN_RATE(x):\n    return x",
        "@dataclass\nclass LEARNIGN_RATE:\n    x: int",
        "@functools.cache\n@torch.compile(dynamic=True)\ndef LEARNIGN_RATE(x):\n    return x",
    ],
)
def test_a_name_that_the_baseline_has_not_and_nothing_uses(change):
    assert list(unknown_names(BASELINE, overlay(change))) == ["LEARNIGN_RATE"]


@pytest.mark.parametrize(
    "change",
    [
        "LEARNING_RATE = 6e-3",
        "WIDTH = 3",  # which `train` does not reach: the baseline's affair
        "SCALE = 3\nLEARNING_RATE = 3e-4 * SCALE",
        "def square(x):\n    return x * x\n\ndef activation(x):\n    return square(x)",
        "def activation(x):\n    return square(x)\n\ndef square(x):\n    return x * x",
        "def a(x):\n    return b(x)\n\ndef b(x):\n    return c(x)\n\nc = abs\n\ndef activation(x):\n    return a(x)",
        "SCALE = 3\n\nclass Block(Block):\n    def forward(self, x):\n        return SCALE * x",
        "plain = activation\n\ndef activation(x):\n    return plain(x)",
        "class Scale: ...\n\ndef activation(x: Scale) -> Scale:\n    return x",
        "ALPHA = 1\n\n@decorated(ALPHA)\ndef activation(x):\n    return x",
        "def range(n):\n    return [0]",  # a name that the baseline reads
        "def gelu(x):\n    return x\n\nF.gelu = gelu",
        "_ = setattr(F, 'gelu', F.relu)",
        "_a, _b = patch(F)",
        "DEPTH, _ = divmod(17, 4)",
        "@patch\ndef helper(x):\n    return x",
        "@patch\nclass Helper:\n    pass",
        "RATE = 3\n\n@patch\ndef helper(x):\n    return RATE",
        "RATE = 3\nprint(RATE)",
        "for number in range(3):\n    DEPTH += number",
        "for number in range(3):\n    pass",
        "with patched(F) as patch:\n    pass",
        "try:\n    import fast\nexcept ImportError:\n    fast = None",
        "for number in range(3):\n    half = number / 2\n    DEPTH += half",
        "with patched(F):\n    _ = setattr(F, 'gelu', F.relu)",
        "with patched(F):\n    RATE = 3\n    print(RATE)",
        "for number in range(3):\n    @patch\n    def helper(x):\n        return number",
        "for number in range(3):\n    F.rate = number",
        "@torch.no_grad()\ndef activation(x):\n    return x",
        "import os\nfrom os import path as where\nfrom math import *",
        "def train(run):\n    return new(run)\n\nnew = 3",
        "(walrus := 3)",
        "DEPTH = (walrus := 3) + walrus",
        "TRACK = 'cpu'\nGOAL = 'simplify'",
        "X: int",
        "del WIDTH",
        "",
    ],
)
def test_a_name_that_is_known_or_used(change):
    assert unknown_names(BASELINE, overlay(change)) == {}


def test_the_line_inside_a_loop_is_named():
    change = overlay("for number in range(3):\n    DEPTH += number\n    LEARNIGN_RATE = number")
    assert unknown_names(BASELINE, change) == {"LEARNIGN_RATE": 4}


def test_names_that_only_use_each_other_are_unknown_with_the_line_of_each():
    change = overlay("\ndef helper():\n    return other()\n\n\ndef other():\n    return helper()\n\n\nDEPTH = 3")
    assert unknown_names(BASELINE, change) == {"helper": 3, "other": 7}


def test_train_is_known_to_every_baseline():
    assert unknown_names("X = 1\n", overlay("Y = 2\ndef train(run):\n    return Y")) == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("LEARNIGN_RATE = 6e-3", r":3: `LEARNIGN_RATE`: train\.py has no such name, .* did you mean `LEARNING_RATE`\?"),
        ("def activaton(x):\n    return x", r":3: `activaton`: .* nothing uses it; did you mean `activation`\?"),
        ("widht = 3", r":3: .*; did you mean `WIDTH`\?"),
        ("MOMENTUM = 3", r":3: `MOMENTUM`: train\.py has no such name, and nothing uses it\Z"),
    ],
)
def test_it_is_an_error_that_names_the_nearest(tmp_path, change, says):
    path = tmp_path / "idea.py"
    path.write_text(f"from baseline import *\nDEPTH = 3\n{change}\n")
    with pytest.raises(UsageError, match=says) as caught:
        read_experiment(path, tmp_path).program(BASELINE, "train.py")
    assert str(caught.value).startswith(f"{path}:3: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_complete_program_may_bind_what_it_likes(tmp_path):
    experiment = Experiment("idea", tmp_path / "idea.py", "LEARNIGN_RATE = 3\ntrain = 1\n", "idea", False, None)
    assert experiment.program(BASELINE, "train.py").source == experiment.source


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("rmsnor", ["rope", "rmsnorm", "qk_norm"], ["rmsnorm"]),
        ("rmsnor", ["norms/rmsnorm"], ["norms/rmsnorm"]),
        ("LEARNIGN_RATE", ["WARMUP", "LEARNING_RATE"], ["LEARNING_RATE"]),
        ("width", ["DEPTH", "WIDTH", "Width"], ["WIDTH", "Width", "DEPTH"]),
        ("banana", ["rope", "rmsnorm"], []),
        ("", ["rope"], []),
        ("rope", [], []),
        ("deep", ["deep1", "deep2", "deep3", "deep4"], ["deep4", "deep3", "deep2"]),
    ],
)
def test_nearest(name, known, expected):
    assert nearest(name, known) == expected
