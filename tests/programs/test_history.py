"""What promotions brought, and what an overlay takes back of it."""

import pytest

from pytest_autoresearch.programs.history import changed_lines, lost_lines
from pytest_autoresearch.programs.splice import splice

OLD = '''\
"""A baseline."""

WIDTH = 64  # channels
A, B = 1, 2


class Block:
    def forward(self, x):
        return self.mlp(x)


def train(run):
    """Train."""
    model = make()
    for batch in run:
        step(model, batch)
    return model
'''
AVERAGED = """\
from baseline import *


def train(run):
    model = make()
    # of the weights
    average = Average(model)
    for batch in run:
        step(model, batch)
        average.update(model)  # each step
    return average.model
"""
AVERAGING = ["average = Average(model)", "average.update(model)", "return average.model"]


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (AVERAGED, {"train": AVERAGING}),
        ("WIDTH = 65", {"WIDTH": ["WIDTH = 65"]}),
        ("A = 3", {"A": ["A = 3"]}),
        ("A, B = 3, 4", {"A": ["A, B = (3, 4)"], "B": ["A, B = (3, 4)"]}),
        ("WIDTH = WIDTH * 2", {"WIDTH": ["WIDTH = WIDTH * 2"]}),
        ("class Block(Block):\n    x = 1", {"Block": ["class Block(Block):", "x = 1"]}),
        ("def new():\n    pass", {"new": ["def new():", "pass"]}),
        ("import os", {"os": ["import os"]}),
        ("WIDTH = (64)  # the same\n'''Of it.'''", {}),
        ("def train(run):\n    '''Another docstring.'''\n    return model\n", {}),
        ("print(WIDTH)", {}),
        ("", {}),
    ],
)
def test_changed_lines(overlay, expected):
    assert changed_lines(OLD, splice(OLD, f"from baseline import *\n{overlay}\n")) == expected


PROMOTED = {"train": AVERAGING, "WIDTH": ["WIDTH = 65"], "Block": ["x = 1"]}


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ("def train(run):\n    return average.model", {"train": AVERAGING[:2]}),
        ("def train(run):\n    '''average.update(model)'''\n    # average.update(model)", {"train": AVERAGING}),
        (AVERAGED, {}),
        (AVERAGED.replace("each step", "now and then").replace("model = make()", "model = remake()"), {}),
        ("WIDTH = 66", {"WIDTH": ["WIDTH = 65"]}),
        ("WIDTH = WIDTH + 1", {}),
        ("WIDTH += 1", {}),
        ("WIDTH = 66\nWIDTH = WIDTH + 1", {"WIDTH": ["WIDTH = 65"]}),
        ("if WIDTH:\n    WIDTH = 66", {}),
        ("WIDTH, OTHER = 66, 3", {"WIDTH": ["WIDTH = 65"]}),
        ("class Block(Block):\n    pass", {}),
        ("plain = train\n\ndef train(run):\n    return plain(run)", {}),
        ("def train(run):\n    return plain(run)\n\nplain = train", {"train": AVERAGING}),
        ("def use():\n    return WIDTH\n\nWIDTH = use() + 1", {}),
        ("from mine import train", {"train": AVERAGING}),
        ("TRACK = 'cpu'\nOTHER = 3", {}),
        ("", {}),
    ],
)
def test_lost_lines(overlay, expected):
    assert lost_lines(f"from baseline import *\n{overlay}\n", PROMOTED) == expected


def test_an_overlay_that_has_been_promoted_loses_nothing():
    assert lost_lines(AVERAGED, changed_lines(OLD, splice(OLD, AVERAGED))) == {}


def test_what_is_nested_deeply_is_compared_as_it_is_written():
    deep = "X = 1" + " + 1" * 400
    assert changed_lines("X = 1\n", f"{deep}  # sum\n") == {"X": [f"{deep}  # sum"]}
