"""Comparing programs: when two are one, patches, and counts of lines."""

import ast

import pytest

from pytest_autoresearch.programs.compare import code_sha, line_counts, same_program, sha256, unified_diff
from pytest_autoresearch.programs.experiment import Program
from pytest_autoresearch.programs.size import code_tokens

PROGRAM = '''\
"""A program."""

import math

WIDTH = 128  # channels
"""Of the residual stream."""


class Block:
    """Does nothing."""

    def forward(self, x):
        """Neither does this."""
        return [x, -1, 1.5, 'a', b'a', None, True, ..., math.pi]


def train(run):
    if run:
        return {**run, 'x': [*run]}
    return f"{run!r:>{WIDTH}}"
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("128  # channels", "(128)"),
        ('"""A program."""\n', ""),
        ('"""A program."""\n', "# A program.\n"),
        ('"""Of the residual stream."""\n', ""),
        ('    """Does nothing."""\n', ""),
        ('"""Neither does this."""', '"""Not at all."""'),
        ("[x, -1, 1.5, 'a', b'a',", "[\n            x, -1, 1.5, \"a\", b'a',"),
        ("\n", "\r\n"),
        ("WIDTH = 128", "\x0cWIDTH = 0x80"),
    ],
)
def test_layout_comments_and_docstrings_do_not_matter(old, new):
    assert old in PROGRAM
    changed = PROGRAM.replace(old, new)
    assert Program(changed).sha != Program(PROGRAM).sha
    assert Program(changed).code_sha == Program(PROGRAM).code_sha
    assert same_program(PROGRAM, changed)
    assert code_tokens(changed) == code_tokens(PROGRAM)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("128", "129"),
        ("128", "128.0"),
        ("128", "'128'"),
        ("-1", "1"),
        ("True", "1"),
        ("None", "..."),
        ("'a', b'a'", "b'a', 'a'"),
        ("'a', b'a'", "'a' 'b'"),
        ("[x, -1,", "[[x, -1],"),
        ("{**run, 'x'", "{'y': run, 'x'"),
        ("!r", "!s"),
        ("[*run]", "[run]"),
        ("x", "y"),
        ("math.pi", "math.e"),
        (
            "        return {**run, 'x': [*run]}\n    return",
            "        return {**run, 'x': [*run]}\n    else:\n        return",
        ),
        ("import math", "import math as m"),
    ],
)
def test_everything_else_matters(old, new):
    assert old in PROGRAM
    changed = PROGRAM.replace(old, new)
    ast.parse(changed)
    assert Program(changed).code_sha != Program(PROGRAM).code_sha
    assert not same_program(PROGRAM, changed)


def test_a_body_that_is_only_a_docstring_is_an_empty_one():
    assert same_program("def f():\n    '''Nothing.'''\n", "def f():\n    pass\n")
    assert same_program("'''Only a docstring.'''", "")
    assert same_program("", "# nothing")
    assert not same_program("x = '''No docstring.'''", "x = ''")


@pytest.mark.parametrize(
    "reads",
    [
        *("train.__doc__", "inspect.getsource(train)", "open(__file__)", "inspect.getdoc(train)"),
        *("train.__code__", "inspect.getcomments(train)", "open(path)", "sys.argv", "globals()", "vars(train)"),
    ],
)
def test_the_text_matters_to_a_program_that_may_read_it(reads):
    one, other = (f'def train(run):\n    """{text}"""\n    return {reads}\n' for text in ("one", "two"))
    assert not same_program(one, other)
    assert code_sha(one) == sha256(one)


@pytest.mark.parametrize(
    "source",
    [
        "x = (",
        "\0",
        "return 3",
        "x = " + "(" * 500 + ")" * 500,
        "x = " + "-" * 100_000 + "1",
        "x = 1" + " + 1" * 3000,
        "x" + ".y" * 3000,
        "x = 0x" + "f" * 9000,
        "if x:\n\ty = 1\n        z = 2",
        "",
        "\ufeff",
    ],
)
def test_every_text_has_an_identity(source):
    assert same_program(source, source)
    assert not same_program(source, source + "\nx = 2\n")
    assert len(code_sha(source)) == 64


def test_the_identity_is_the_same_in_all_versions_of_python():
    """Ledgers and records are shared: ast.dump, for example, writes empty fields only until Python 3.12."""
    assert code_sha(PROGRAM) == "05a09657a7c5d7623aaf41b1e4af3a650b3792449010112ef12ffcad2006b551"


def test_line_ends_do_not_matter():
    assert unified_diff("a\r\nb", "a\nb\n") == ""
    assert line_counts("a\r\nb", "a\nb\n") == (0, 0)


def test_diff_and_counts():
    assert unified_diff("a\nb\n", "a\nc\nd\n", "baseline/cpu/train.py", "rmsnorm") == (
        "--- baseline/cpu/train.py\n+++ rmsnorm\n@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d\n"
    )
    assert line_counts("a\nb\n", "a\nc\nd\n") == (2, 1)
    assert line_counts("a\n-- b\n", "a\n++ c\x0c+\n") == (1, 1)
