"""Simpler is what has fewer tokens of code, and not what is written more densely."""

import base64
import zlib
from pathlib import Path

import pytest

from pytest_autoresearch.programs.size import code_tokens, compare_sizes

ROOT = Path(__file__).parents[2]

DENSER = {
    "a tuple of values": ("a = 1\nb = 2\nc = 3\nd = 4", "a, b, c, d = 1, 2, 3, 4"),
    "a tuple of calls": ("f()\ng()\nh()\ni()\nj()", "(f(), g(), h(), i(), j())"),
    "a list": ("f()\ng()\nh()", "[f(), g(), h()]"),
    "a dict": ("f()\ng()\nh()\ni()", "{f(): g(), h(): i()}"),
    "an f-string": ("f()\ng()\nh()\ni()", 'f"{f()}{g()}{h()}{i()}"'),
    "arguments of a call": ("f()\ng()\nh()\ni()\nj()", "max(f(), g(), h(), i(), j())"),
    "defaults": ("a = f()\nb = g()\nh(a, b)", "def q(a=f(), b=g()):\n    h(a, b)"),
    "or": ("f()\ng()\nh()\ni()", "f() or g() or h() or i()"),
    "a sum": ("f()\ng()\nh()", "f() + g() + h()"),
    "a comparison": ("f()\ng()\nh()", "f() < g() < h()"),
    "assert": ("f()\ng()", "assert f(), g()"),
    "semicolons": ("a = 1\nb = 2", "a = 1; b = 2"),
    "lambda": ("def f(x):\n    return g(x)", "f = lambda x: g(x)"),
    "lambda of a tuple": ("def f(x):\n    g(x)\n    return h(x)", "f = lambda x: (g(x), h(x))[-1]"),
    "walrus": ("y = f(x)\nif y:\n    g(y)", "if (y := f(x)):\n    g(y)"),
    "and": ("if a:\n    f()", "a and f()"),
    "a conditional return": ("if a:\n    return_(b)\nreturn_(c)", "return_(b) if a else return_(c)"),
    "imports": ("import a\nimport b", "import a, b"),
    "names of a module": ("from m import a\nfrom m import b", "from m import a, b"),
    "with": ("with a:\n    with b:\n        f()", "with a, b:\n    f()"),
    "a comprehension": ("for x in xs:\n    if x:\n        f(x)", "[f(x) for x in xs if x]"),
    "a class made by type": (
        "class A(B):\n    def f(self, x): return x",
        "A = type('A', (B,), {'f': lambda self, x: x})",
    ),
    "a loop over names": ("m.a = 1\nm.b = 2\nm.c = 3", "for k, v in zip('abc', (1, 2, 3)):\n    setattr(m, k, v)"),
    "short names": ("learning_rate = base_rate * factor", "a = b * c"),
    "docstrings and comments": ('def f():\n    """Why."""  # how\n    return 1', "def f(): return 1"),
    "annotations": (
        "def f(x: Tensor, y: list[int] = 3) -> Tensor | None:\n    return x",
        "def f(x, y=3):\n    return x",
    ),
}


@pytest.mark.parametrize("way", DENSER)
def test_denser_is_not_simpler(way: str) -> None:
    plain, dense = DENSER[way]
    assert code_tokens(dense) >= code_tokens(plain)


@pytest.mark.parametrize(
    ("plain", "simpler"),
    [
        ("x = f(a)\ny = g(x)", "y = g(f(a))"),
        ("if a:\n    f()\n    g()\nelse:\n    f()", "f()\nif a:\n    g()"),
        ("x = x + 1", "x += 1"),
        ("out = []\nfor x in xs:\n    out.append(f(x))", "out = [f(x) for x in xs]"),
        ("def f(x, unused=3):\n    return x", "def f(x):\n    return x"),
    ],
)
def test_less_to_read_is_simpler(plain: str, simpler: str) -> None:
    assert compare_sizes(simpler, plain)[0]
    assert not compare_sizes(plain, simpler)[0]
    assert not compare_sizes(plain, plain)[0]


@pytest.mark.parametrize("track", ["cpu", "cuda"])
def test_a_program_in_a_string_is_not_smaller(track: str) -> None:
    source = (ROOT / f"baseline/{track}/train.py").read_text()
    packed = zlib.compress(source.encode(), 9)
    for text in (repr(source), repr(packed), repr(base64.b85encode(packed).decode())):
        assert code_tokens(f"run({text})") > code_tokens(source)


@pytest.mark.parametrize(
    "line",
    [
        "exec(text)",
        "run = eval",
        "compile(text, '', 'exec')",
        "__import__('os')",
        "getattr(__builtins__, name)",
        "vars(thing)['exec']",
        "from builtins import exec as run",
        "import importlib\nimportlib.import_module(name)",
        "torch.jit.CompilationUnit(text)",
        "timeit.timeit(text, number=1)",
        "bdb.Bdb().run(open(sys.argv[3]).read())",
        "pickle.loads(data)",
        "text = train.__doc__",
        "text = inspect.getsource(train)",
    ],
)
def test_who_runs_or_reads_text_is_no_simpler(line: str) -> None:
    baseline = "\n".join(f"x{number} = f({number}, {number})" for number in range(20))
    is_simpler, words = compare_sizes(f"text = 1\n{line}\n", baseline)
    assert not is_simpler
    assert words.endswith("` may run or read code that is not counted")
    assert compare_sizes(f"{line}\n", f"{baseline}\n{line}\n")[0], "the baseline does, too"


def test_a_model_may_be_evaluated_and_compiled() -> None:
    assert compare_sizes("torch.compile(model.eval())", "f(1)\ng(2)\nh(3)\nf(4)")[0]


def test_numbers_and_annotations_hold_nothing() -> None:
    assert code_tokens(f"x = 0x{'f' * 640}") > code_tokens("x = 1") + 15
    assert code_tokens("x: f('held here') = 1") > code_tokens("x: int = 1") + 10
    assert code_tokens(f"{'x' * 640} = 1") > code_tokens("x = 1") + 9


def test_it_is_said_in_words() -> None:
    many = "\n".join("f(1)" for _ in range(1000))
    assert compare_sizes("f(1)", many) == (True, "4 tokens of code, the baseline has 4,000")
