"""Constants, read and rewritten as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.constants import constants_of, different, read_setting, spell, with_constants, written
from pytest_autoresearch.programs.splice import splice

PROGRAM = '''"""A program."""

import math

# Model
DEPTH = 2  # blocks
WIDTH: int = 16 * DEPTH
STD = 1 / math.sqrt(WIDTH)

# Optimization, in steps
LEARNING_RATE = 4e-3
"""Of the matrices."""
BATCH_SIZE = 2**4  # sequences
PATTERN = 'SSSL'


def train(run):
    return LEARNING_RATE
'''


def test_constants_are_literals_and_arithmetic_over_them():
    assert constants_of(PROGRAM) == {
        "DEPTH": 2,
        "WIDTH": 32,
        "LEARNING_RATE": 0.004,
        "BATCH_SIZE": 16,
        "PATTERN": "SSSL",
    }
    source = "A = B = -1\nlower = 3\nC, D = 1, 2\nE = None\nF = lower\nG = [1]\nH = True\nI: int\nGOAL = 'simplify'\n"
    assert constants_of(source) == {"A": -1, "B": -1, "E": None, "H": True}
    assert constants_of("A = 9**9**9\nB = 1 / 0\nC = 'a' * 3\nD = A\nE = 1e400\n") == {}


def test_the_last_binding_counts():
    assert constants_of("A = 1\nA = 2 * A\n") == {"A": 2}
    assert constants_of("A = 1\nA = f()\nB = 1\nfor B in x: pass\nC = 1\nC += 1\nD = 1\ndef D(): pass\n") == {}


def test_a_rewritten_program_differs_in_its_values_only():
    values = {"DEPTH": 3, "WIDTH": 48, "LEARNING_RATE": 0.002, "BATCH_SIZE": 8, "PATTERN": "L"}
    program = with_constants(PROGRAM, values)
    assert program == (
        PROGRAM.replace("DEPTH = 2 ", "DEPTH = 3 ")
        .replace("16 * DEPTH", "48")
        .replace("4e-3", "0.002")
        .replace("2**4", "8")
        .replace("'SSSL'", '"L"')
    )


def test_what_has_its_value_already_is_left_as_it_is_written():
    assert with_constants(PROGRAM, constants_of(PROGRAM)) == PROGRAM
    assert different({"A": 1, "B": 1.0, "C": 1}, {"A": 1, "B": 1}) == {"B": 1.0, "C": 1}


def test_in_an_overlay_a_constant_may_be_new_or_bound():
    overlay = '"""Idea."""\nfrom baseline import *\n\nBATCH_SIZE = BATCH_SIZE // 2  # half\nHALF = WIDTH // 2\n'
    changed = with_constants(overlay, {"BATCH_SIZE": 8, "WIDTH": 64, "LEARNING_RATE": 1e-05})
    assert changed == (
        '"""Idea."""\nfrom baseline import *\n\nBATCH_SIZE = 8  # half\n'
        "WIDTH = 64\nHALF = WIDTH // 2\nLEARNING_RATE = 1e-05\n"
    )
    assert constants_of(splice(PROGRAM, changed))["LEARNING_RATE"] == 1e-05


def test_the_last_of_two_bindings_is_rewritten():
    assert with_constants("A = 1\nB = A\nA = 2 * A  # twice\n", {"A": 5}) == "A = 1\nB = A\nA = 5  # twice\n"


NAMES = ["DEPTH", "WIDTH", "LEARNING_RATE", "BATCH_SIZE", "PATTERN", "NEW"]
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)


@given(values=st.dictionaries(st.sampled_from(NAMES), VALUES | st.text(max_size=8)))
def test_what_is_written_is_read_back(values):
    text = with_constants(PROGRAM, values)
    found = constants_of(text)
    assert {name: (type(found[name]), found[name]) for name in values} == {n: (type(v), v) for n, v in values.items()}
    assert all(read_setting(part) == (name, values[name]) for name in values for part in [spell({name: values[name]})])
    assert len(spell(values).split()) == len(values)


def test_values_are_written_short():
    assert [written(value) for value in (0.002, 1e-5, 16, "SSSL", 'a"b', None, True)] == [
        "0.002",
        "1e-05",
        "16",
        '"SSSL"',
        "'a\"b'",
        "None",
        "True",
    ]
    assert spell({"LEARNING_RATE": 0.002, "BATCH_SIZE": 16, "NAME": "a b"}) == (
        'LEARNING_RATE=0.002 BATCH_SIZE=16 NAME="a\\x20b"'
    )


def test_a_setting_is_read():
    assert read_setting("LEARNING_RATE=0.002") == ("LEARNING_RATE", 0.002)
    assert read_setting("A = -2**4") == ("A", -16)
    assert read_setting("PATTERN=SSSL") == ("PATTERN", "SSSL")  # the shell has taken the quotes away
    assert read_setting('PATTERN="SS = L"') == ("PATTERN", "SS = L")
    assert read_setting("A=None") == ("A", None)


@pytest.mark.parametrize(
    "text",
    ["", "A", "A=", "=1", "rate=1", "A B=1", "A=f(1)", "A=[1]", "A=1/0", "A=1e999", "A=(", "A=1)\nimport os\n(1"],
)
def test_what_is_no_setting_is_refused(text):
    with pytest.raises(UsageError, match="must be NAME=VALUE") as error:
        read_setting(text)
    assert "\n" not in str(error.value)


def test_zero_keeps_its_sign():
    assert math.copysign(1, constants_of(with_constants("A = 1.0\n", {"A": -0.0}))["A"]) == -1
