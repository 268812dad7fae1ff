"""Search spaces, read as text."""

import re
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.constants import constants_of
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.ranges import Choices, Range
from pytest_autoresearch.programs.search_space import (
    SearchSpace,
    check_computed,
    check_keys,
    has_search_space,
    read_search_space,
    without_search_space,
)
from pytest_autoresearch.programs.spelling import unknown_names
from pytest_autoresearch.programs.splice import splice

SWEEP = '''"""Rate and batch together."""
from baseline import *

# What to try.
SEARCH_SPACE = {
    "LEARNING_RATE": log(1e-3, 1e-2),   # log-uniform
    "WARMUP": (0.0, 0.2),
    "WIDTH": (32, 96, 16),
    "DEPTH": log(2, 2**6),
    "BATCH_SIZE": [8, 16, 32],
    "PATTERN": ["SSSL", None, True, -1.5],
}
CONSTRAINTS = ["BATCH_SIZE * SEQUENCE_LENGTH <= 4096", "WIDTH % 3 == 0 or not DEPTH > 8"]
VARY = (2, 4)

# The idea.
def activation(x):
    return F.relu(x)
'''


def read(text: str) -> SearchSpace:
    return read_search_space(Path("sweep.py"), text)


def test_a_space_is_read_without_running_it():
    space = read(SWEEP)
    assert space == SearchSpace(
        {
            "LEARNING_RATE": Range(1e-3, 1e-2, None, True),
            "WARMUP": Range(0.0, 0.2),
            "WIDTH": Range(32, 96, 16),
            "DEPTH": Range(2, 64, None, True),
            "BATCH_SIZE": Choices((8, 16, 32)),
            "PATTERN": Choices(("SSSL", None, True, -1.5)),
        },
        ("BATCH_SIZE * SEQUENCE_LENGTH <= 4096", "WIDTH % 3 == 0 or not DEPTH > 8"),
        (2, 4),
    )
    assert [space.keys[name].is_int for name in ("WARMUP", "WIDTH", "DEPTH")] == [False, True, True]
    assert read('SEARCH_SPACE: dict = {"A": (0, 1.0)}\nVARY = 1').keys["A"] == Range(0.0, 1.0)
    assert read('SEARCH_SPACE = {"A": (0, 1)}\nVARY = 1').vary == (1, 1)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("SEARCH_SPACE = {}", 1, "empty"),
        ('SEARCH_SPACE = {"A": [1]}', 1, "at least two choices"),
        ('SEARCH_SPACE = {"A": [1, 1.0]}', 1, "equal to another choice"),
        (f'SEARCH_SPACE = {{"A": ["{"x" * 101}", 1]}}', 1, "a string of 101 characters; at most 100"),
        (f'SEARCH_SPACE = {{"A": [2, 1]}}\nCONSTRAINTS = {["A > 1"] * 101}', 2, "101 constraints; at most 100"),
        ('SEARCH_SPACE = {"A": [1, [2]]}', 1, "`[2]`: must be a number, a string"),
        ('SEARCH_SPACE = {"A": [1, 2],\n"B": (2, 2)}', 2, "below the upper one"),
        ('SEARCH_SPACE = {"A": (2, 1)}', 1, "`(2, 1)`: the lower end must be below"),
        ('SEARCH_SPACE = {"A": (-1e308, 1e308)}', 1, "finite distance"),
        ('SEARCH_SPACE = {"A": log(0, 1)}', 1, "above 0"),
        ('SEARCH_SPACE = {"A": log(1, 2, 3)}', 1, "must be `log(low, high)`, `(low, high)`"),
        ('SEARCH_SPACE = {"A": exp(1, 2)}', 1, "`exp(1, 2)`: must be `log(low, high)`"),
        ('SEARCH_SPACE = {"A": 3}', 1, "`3`: must be `log(low, high)`"),
        ('SEARCH_SPACE = {"A": (1, 2, 0)}', 1, "step must be above 0"),
        ('SEARCH_SPACE = {"A": (1, 2, 3)}', 1, "at most as large as the range"),
        ('SEARCH_SPACE = {"A": (1, "2")}', 1, '`"2"`: must be a number'.replace('"', "'")),
        ('SEARCH_SPACE = {"A": (0, 1e999)}', 1, "must be a number"),
        ('SEARCH_SPACE = {"A": (0, 9**9**9)}', 1, "must be a number"),
        ('SEARCH_SPACE = {"A": (0, float("nan"))}', 1, "must be a number"),
        ('SEARCH_SPACE = {"A": (0, True)}', 1, "must be a number"),
        ('SEARCH_SPACE = {"A": (0, 1),\n\n"A": (0, 2)}', 3, '"A" twice'),
        ("SEARCH_SPACE = {1: (0, 1)}", 1, "`1`: must be the name of a constant"),
        ('SEARCH_SPACE = {"rate": (0, 1)}', 1, "must be the name of a constant"),
        ('SEARCH_SPACE = {"TRACK": ["a", "b"]}', 1, "must be the name of a constant"),
        ("SEARCH_SPACE = {**OTHER}", 1, "`**OTHER`: must be the name"),
        ("SEARCH_SPACE = dict(A=(0, 1))", 1, "must be a dictionary that is written out"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nSEARCH_SPACE["B"] = (0, 1)', 2, "bound twice"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nSEARCH_SPACE = {"A": (0, 1)}', 2, "bound twice"),
        ('if x:\n    SEARCH_SPACE = {"A": (0, 1)}', 1, "must be written out"),
        ('X = SEARCH_SPACE = {"A": (0, 1)}', 1, "must be written out"),
        ('X = 1\nCONSTRAINTS = ["A < 1"]', 2, "CONSTRAINTS without SEARCH_SPACE"),
        ("VARY = 2", 1, "VARY without SEARCH_SPACE"),
        ("X = 1", None, "no SEARCH_SPACE"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nVARY = 2', 2, "from 1 to 1"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nVARY = 0', 2, "from 1 to 1"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nVARY = True', 2, "from 1 to 1"),
        ('SEARCH_SPACE = {"A": (0, 1), "B": (0, 1)}\nVARY = (2, 1)', 2, "from 1 to 2"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nVARY = "1"', 2, "from 1 to 1"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = "A < 1"', 2, "must be a list of strings"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A < 1",\nA < 2]', 3, "must be a string"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A + 1"]', 2, "must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A <"]', 2, "must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A < 1; B < 1"]', 2, "must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A < exit()"]', 2, "`exit()`: must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A.b < 1"]', 2, "`A.b`: must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["A in (1, 2)"]', 2, "must be a comparison"),
        ('SEARCH_SPACE = {"A": (0, 1)}\nCONSTRAINTS = ["' + "(" * 300 + '"]', 2, "must be a comparison"),
        ("SEARCH_SPACE = {", 1, "was never closed"),
    ],
)
def test_a_mistake_names_line_what_was_found_and_what_is_allowed(text, line, words):
    with pytest.raises(UsageError) as error:
        read(text)
    assert str(error.value).startswith("sweep.py: " if line is None else f"sweep.py:{line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


CONSTANTS = {"A": 4, "B": 2.5, "HEADS": 3, "NAME": "SSSL", "NOTHING": None, "ON": True}


@pytest.mark.parametrize(
    ("constraint", "amount"),
    [
        ("A <= 4", 0),
        ("A <= 1", 3),
        ("A * HEADS <= 10 - 1", 3),
        ("A < 4", 1e-9),
        ("A > 5.5", 1.5),
        ("5.5 <= A", 1.5),
        ("1 < A < 3 <= HEADS", 1),
        ("A == 7", 3),
        ("A != 4", 1),
        ("A % HEADS == 0", 1),
        ("A // HEADS == 1 and -A == -4 and A ** 2 == 16 and A / 2 - 2 == 0", 0),
        ("A <= 1 and B <= 0", 5.5),
        ("A <= 1 or B <= 0", 2.5),
        ("not A <= 4", 1),
        ("min(A, B, 7) <= 1", 1.5),
        ("max(A, B) <= abs(-3)", 1),
        ('NAME == "SSSL"', 0),
        ('NAME != "SSSL"', 1),
        ('NAME == "LLLL"', 1),
        ("NOTHING == None and ON == True", 0),
        ("NAME <= A", 1),
        ("A / (HEADS - 3) <= 1", 1),
        ("A / (HEADS - 3) <= 1 or A == 4", 0),
        ("9 ** 9 ** 9 <= 1", 1),
        ("(-8) ** 0.5 <= 1", 1),
        ("1e300 * 1e300 > 1", 1),
        ("A <= -10 ** 308", 1e300),
    ],
)
def test_a_constraint_says_by_how_much_it_is_not_met(constraint, amount):
    space = SearchSpace({"A": Range(0, 9)}, (constraint,))
    assert space.violations({"A": 4}, CONSTANTS) == ({constraint: pytest.approx(amount)} if amount else {})


def test_values_come_before_constants():
    space = SearchSpace({"A": Range(0, 9)}, ("A <= 5",))
    assert space.violations({"A": 8}, CONSTANTS) == {"A <= 5": 3}


def test_contains_knows_type_and_step():
    space = SearchSpace({"F": Range(0.1, 0.9, 0.2), "I": Range(1, 9), "C": Choices((8, "8"))})
    good = {"F": 0.7, "I": 9, "C": "8"}
    assert space.contains(good | {"OTHER": 1})
    bad = [{"F": 0.6}, {"F": 1.1}, {"F": "0.1"}, {"I": 1.0}, {"I": True}, {"I": 0}, {"C": 8.0}]
    assert not any(space.contains(good | change) for change in bad)
    assert not space.contains({"F": 0.7, "I": 9})


def test_a_stepped_range_counts_its_values_as_they_are_written():
    allowed = Range(0.0, 0.35, 0.1)
    assert allowed.size == 4
    assert [allowed[number] for number in range(4)] == [0.0, 0.1, 0.2, 0.3]
    assert [Range(32, 100, 16)[number] for number in range(5)] == [32, 48, 64, 80, 96]
    assert read('SEARCH_SPACE = {"A": (0.1, 0.3, 0.2)}').keys["A"].size == 2  # 0.3 - 0.1 < 0.2 in floats


def test_a_search_space_is_found_where_it_is_bound():
    assert has_search_space(SWEEP)
    assert has_search_space("X = 1; SEARCH_SPACE = 3")
    assert not has_search_space('"""SEARCH_SPACE = {}"""\nX = 1')
    assert not has_search_space("X = 1")
    assert not has_search_space("SEARCH_SPACE = {")


def test_without_the_space_the_idea_is_left():
    assert without_search_space(SWEEP) == (
        '"""Rate and batch together."""\nfrom baseline import *\n\n'
        "# The idea.\ndef activation(x):\n    return F.relu(x)\n"
    )
    assert without_search_space("A = 1  # one\nB = 2; VARY = 3\n") == "A = 1  # one\nB = 2\n"
    assert without_search_space("A = 1\n\n\n") == "A = 1\n\n\n"


def test_a_space_never_becomes_part_of_a_program():
    baseline = "import torch.nn.functional as F\n\nVARY_NOT = 1\n\n\ndef activation(x):\n    return F.gelu(x)\n"
    assert splice(baseline, SWEEP) == baseline.replace("def", "# The idea.\ndef").replace("gelu", "relu")
    assert unknown_names(baseline, SWEEP) == {}


def test_an_experiment_loses_no_constant_of_that_name(tmp_path):
    path = tmp_path / "idea.py"
    path.write_text("from baseline import *\n\nVARY = 2\n")
    with pytest.raises(UsageError, match=r"idea.py:3: VARY without SEARCH_SPACE"):
        read_experiment(path, tmp_path)
    path.write_text(SWEEP)
    assert read_experiment(path, tmp_path).description == "Rate and batch together."


def test_keys_and_names_must_be_constants_of_the_program():
    constants = constants_of('LEARNING_RATE = 1e-3\nBATCH_SIZE = 8\nNAME = "a"\n')

    def check(text: str) -> None:
        check_keys(read(text), constants, Path("sweep.py"), "train.py")

    check('SEARCH_SPACE = {"BATCH_SIZE": [8, 16]}\nCONSTRAINTS = ["BATCH_SIZE * LEARNING_RATE < 1"]')
    with pytest.raises(UsageError, match=r"^sweep.py:2: .*`LEARNING_RATES`.*did you mean `LEARNING_RATE`\?$"):
        check('SEARCH_SPACE = {"BATCH_SIZE": [8, 16],\n"LEARNING_RATES": (0, 1)}')
    with pytest.raises(UsageError, match=r"^sweep.py:2: .*`BATCHSIZE` is neither a key.*did you mean `BATCH_SIZE`\?"):
        check('SEARCH_SPACE = {"BATCH_SIZE": [8, 16]}\nCONSTRAINTS = ["BATCHSIZE < 1"]')
    with pytest.raises(UsageError, match=r"^sweep.py:2: .*strings can be compared with == and !="):
        check('SEARCH_SPACE = {"BATCH_SIZE": [8, 16]}\nCONSTRAINTS = ["NAME < BATCH_SIZE"]')


def test_a_constraint_on_a_constant_that_follows_a_key_says_what_to_write() -> None:
    program = "WIDTH = 48\nHEADS: int = 3\nMLP_WIDTH = 4 * WIDTH\nINNER = MLP_WIDTH // 2\nWIDE = WIDTH\nWIDE = 7\n"
    space = 'SEARCH_SPACE = {"WIDTH": [32, 64]}\n'
    check_computed(read(f'{space}CONSTRAINTS = ["WIDTH * HEADS + WIDE <= 4096"]'), program, Path("sweep.py"))
    check_computed(
        read('SEARCH_SPACE = {"WIDTH": [1, 2], "MLP_WIDTH": [3, 4]}\nCONSTRAINTS = ["MLP_WIDTH >= WIDTH"]'),
        program,
        Path("sweep.py"),
    )
    for name, expression in [("MLP_WIDTH", "4 * WIDTH"), ("INNER", "MLP_WIDTH // 2")]:
        line = rf"sweep.py:2: .*`{name}` changes with the keys; write .*\({re.escape(expression)}\)"
        with pytest.raises(UsageError, match=line):
            check_computed(read(f'{space}CONSTRAINTS = ["{name} <= 200"]'), program, Path("sweep.py"))
