"""Folding: what is folded does exactly the same, and what is not plainly safe is left alone."""

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_autoresearch.programs.fold import fold
from pytest_autoresearch.programs.size import compare_sizes
from pytest_autoresearch.programs.splice import splice
from pytest_autoresearch.programs.unused import without_unused

ROOT = Path(__file__).parents[2]


def overlays(track: str) -> dict[str, str]:
    """The shipped overlays for a track."""
    sources = {path.stem: path.read_text() for path in sorted((ROOT / "experiments").glob("*.py"))}
    other = {"cpu": "cuda", "cuda": "cpu"}[track]
    return {name: source for name, source in sources.items() if f'TRACK = "{other}"' not in source}


def stacked(track: str, names: list[str]) -> str:
    """A baseline with overlays promoted one after another."""
    program = (ROOT / "baseline" / track / "train.py").read_text()
    for name in names:
        program = splice(program, overlays(track)[name])
    return program


def classes(program: str) -> list[str]:
    return [node.name for node in ast.parse(program).body if isinstance(node, ast.ClassDef)]


# -- what is folded does the same --


class TinyRun:
    """A run of three steps on made-up tokens."""

    device, seed, vocab_size, sequence_length, remaining = torch.device("cpu"), 0, 32, 8, 1.0

    def __init__(self) -> None:
        self.progress = 0.0
        self.losses: list[float] = []

    def batches(self, batch_size: int, sequence_length: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(1)
        for step in range(3):
            self.progress = (step + 1) / 3
            rows = torch.randint(self.vocab_size, (2, self.sequence_length + 1), generator=draw)
            yield rows[:, :-1], rows[:, 1:]

    def log(self, loss: Tensor) -> None:
        self.losses.append(loss.item())


def traces(program: str) -> list[Any]:
    """What a program does: its parameters as they are created, after its own start, its losses and its answers."""
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program, "program", "exec"), names)
    torch.manual_seed(0)
    model = names["GPT"](32, 8)
    created = [(name, value.tolist()) for name, value in model.state_dict().items()]
    names["init_weights"](model)
    started = [value.tolist() for value in model.state_dict().values()]
    torch.manual_seed(0)
    run = TinyRun()
    trained = names["train"](run)
    with torch.no_grad():
        answers = trained(torch.arange(16).view(2, 8)).tolist()
    return [created, started, run.losses, answers, torch.rand(1).item()]


NAMES = list(overlays("cpu"))


@pytest.mark.parametrize(
    "names",
    [NAMES, NAMES[::-1], ["ngrams", "rope"], ["qk_norm", "softcap", "swiglu", "rope"]],
    ids=["all", "backwards", "two", "four"],
)
def test_folded_promotions_do_the_same_to_the_last_bit(names: list[str]) -> None:
    program = stacked("cpu", names)
    folded = fold(program)
    assert compare_sizes(folded, program)[0]
    assert len(classes(folded)) < len(classes(program))
    assert traces(folded) == traces(program)
    assert fold(folded) == folded


def test_promotions_on_the_gpu_track_fold() -> None:
    program = stacked("cuda", list(overlays("cuda")))
    folded = fold(program)
    assert compare_sizes(folded, program)[0]
    assert classes(program).count("GPT") > classes(folded).count("GPT")
    assert set(classes(program)) == set(classes(folded))


def test_a_program_without_layers_is_left_as_it_is() -> None:
    for track in ("cpu", "cuda"):
        program = stacked(track, [])
        assert fold(program) is program


def test_comments_and_layout_stay_where_code_stays() -> None:
    assert fold(
        dedent('''\
        """A program."""

        import torch  # all of it
        import math

        # Sizes
        WIDTH = 4  # channels
        HEIGHT = 5

        # how long
        LENGTH = 6


        # What it is.
        class A:
            """One."""

            size = 1  # of A

            # Made.
            def __init__(self, a):
                """Begin."""
                # first
                self.a = [a,  # one
                          WIDTH]

            def f(self, x):
                return (x +
                        1)
            # the end of A


        def helper(x):
            return x


        # More of it.
        class A(A):
            kind = 2

            def __init__(self, a, b):
                super().__init__(a)
                self.b = b  # last

            # Better.
            def f(self, x):
                y = 2 * super().f(x)
                return helper(y)

            def g(self): return torch


        def train(run):
            return A(1, 2).f(3), A(1, 2).a
        ''')
    ) == dedent('''\
        """A program."""

        import torch  # all of it

        # Sizes
        WIDTH = 4  # channels


        def helper(x):
            return x


        # What it is.
        # More of it.
        class A:
            """One."""

            size = 1  # of A
            kind = 2

            # Made.
            def __init__(self, a, b):
                # first
                self.a = [a,  # one
                          WIDTH]
                self.b = b  # last

            # Better.
            def f(self, x):
                y = 2 * (x +
                        1)
                return helper(y)

            def g(self): return torch
            # the end of A


        def train(run):
            return A(1, 2).f(3), A(1, 2).a
        ''')


# -- classes by hand --


BASE = """class Base:
    def __init__(self, *_):
        self.log = ["base"]

    def f(self, x=1):
        return ["base", x]"""


def two(first: str, second: str, between: str = "", base: str = "Base", run: str = "A()") -> str:
    """A program with `class A`, `class A(A)`, and what `train` returns."""
    return "\n\n".join(
        [
            BASE,
            f"class A({base}):\n{indent(dedent(first).strip(), '    ')}",
            dedent(between).strip(),
            f"class A(A):\n{indent(dedent(second).strip(), '    ')}",
            f"def train(run):\n    return {run}",
        ]
    )


INIT = "def __init__(self, width):\n    super().__init__()\n    self.log.append(width)"
F = "def f(self, x=1):\n    return ['A', x]"
FOLDED = {
    "a method replaced": (F, "def f(self, x=1):\n    return x", "A().f(2)"),
    "a method added": (F, "def g(self):\n    return self.f(3)", "A().g()"),
    "super of a method that only the base has": (INIT, "def f(self, x=1):\n    return super().f(x)", "A(1).f(2)"),
    "statements before and after super": (
        INIT,
        "def __init__(self, width):\n    self.first = 1\n    super().__init__(width)\n    self.log.append(2)",
        "(A(7).log, A(7).first)",
    ),
    "an argument by keyword": (INIT, "def __init__(self, width):\n    super().__init__(width=width)", "A(7).log"),
    "one parameter more": (
        INIT,
        "def __init__(self, width, more):\n    super().__init__(width)\n    self.log.append(more)",
        "A(7, 8).log",
    ),
    "an argument computed before": (
        INIT,
        "def __init__(self, width):\n    width = 2 * width\n    super().__init__(width)",
        None,  # left alone: the parameter is bound anew
    ),
    "no __init__ before": (F, "def __init__(self):\n    super().__init__()\n    self.log.append(1)", "A().log"),
    "class attributes": ("size = 1\nkind = 'a'", "size = 2\nother: int = 3", "(A.size, A.kind, A.other)"),
    "a property replaced": (
        "@property\ndef f(self):\n    return 1",
        "@property\ndef f(self):\n    return 2",
        "A().f",
    ),
    "a static method": ("@staticmethod\ndef g(x):\n    return x", "def f(self):\n    return self.g(3)", "A().f()"),
    "a number": ("def g(self):\n    return 5", "def g(self):\n    return super().g().real", "A().g()"),
    "a value of several operations": (
        "def g(self, x):\n    return x + 1",
        "def g(self, x):\n    return 2 * super().g(x)",
        "A().g(3)",
    ),
    "a tuple": (
        "def g(self, x):\n    return x, 1",
        "def g(self, x):\n    a, b = super().g(x)\n    return b, a",
        "A().g(3)",
    ),
    "isinstance": (F, "def g(self, other):\n    return isinstance(other, A)", "A().g(A())"),
    "the same private name": (
        "def g(self):\n    self.__x = 1",
        "def h(self):\n    self.g()\n    return self.__x",
        "A().h()",
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_classes_that_fold(name: str) -> None:
    first, second, run = FOLDED[name]
    program = two(first, second, run=run or "A(7).log")
    folded = fold(program)
    if run is None:
        assert folded == program
        return
    assert classes(folded) == ["Base", "A"]
    results = []
    for source in (program, folded):
        names: dict[str, Any] = {}
        exec(source, names)
        results.append(names["train"](None))
    assert results[0] == results[1]


LEFT = {
    "super in a condition": (INIT, "def __init__(self, width):\n    if width:\n        super().__init__(width)", {}),
    "super twice": (
        "def g(self, x):\n    return x",
        "def g(self, x):\n    return super().g(x) + super().g(x)",
        {},
    ),
    "another argument": (INIT, "def __init__(self, width):\n    super().__init__(width + 1)", {}),
    "another name": (INIT, "def __init__(self, other):\n    super().__init__(other)", {}),
    "swapped arguments": (
        "def g(self, a, b):\n    return a - b",
        "def g(self, a, b):\n    return super().g(b, a)",
        {},
    ),
    "a default that is not passed": (F, "def f(self, x):\n    return super().f()", {}),
    "arguments in a star": (INIT, "def __init__(self, *width):\n    super().__init__(*width)", {}),
    "super().other()": ("def g(self):\n    return 1", "def h(self):\n    return super().g()", {}),
    "super with arguments": ("def g(self):\n    return 1", "def g(self):\n    return super(A, self).g()", {}),
    "super by itself": ("def g(self):\n    return 1", "def g(self):\n    s = super()\n    return s.g()", {}),
    "super in a lambda": ("def g(self, x):\n    return x", "def g(self, x):\n    return lambda: super().g(x)", {}),
    "an early return": (
        "def __init__(self, width):\n    if width:\n        return\n    self.x = 1",
        "def __init__(self, width):\n    super().__init__(width)\n    self.y = 2",
        {},
    ),
    "several statements before the value": (
        "def g(self, x):\n    x = x + 1\n    return x",
        "def g(self, x):\n    return super().g(x)",
        {},
    ),
    "a local name of both": (
        "def __init__(self):\n    size = 1\n    self.x = size",
        "def __init__(self):\n    size = 2\n    super().__init__()\n    self.y = size",
        {},
    ),
    "a local name that hides a global one": (
        "def __init__(self):\n    self.x = len([1])",
        "def __init__(self, len):\n    super().__init__()\n    self.y = len",
        {},
    ),
    "a local name that hides a global one in a value": (
        "def g(self, x):\n    return len(x)",
        "def g(self, x):\n    len = 3\n    return len * super().g(x)",
        {},
    ),
    "a function that remembers its names": (
        "def __init__(self, width):\n    self.x = lambda: width",
        "def __init__(self, width):\n    super().__init__(width)\n    self.y = 2",
        {},
    ),
    "super in an f-string": (
        "def g(self):\n    return 'width=' + str(3)",
        'def g(self):\n    return f"{super().g()}, n=4"',
        {},
    ),
    "no space behind super": (
        "def g(self, x):\n    return x",
        "def g(self, x):\n    return super().g(x)if x else 0",
        {},
    ),
    "a return annotation that does something": (
        "def g(self) -> draw():\n    return 1",
        "def g(self):\n    return 2",
        {},
    ),
    "a decorated method": (
        "@torch.compile\ndef g(self, x):\n    return x",
        "def h(self):\n    return 1",
        {},
    ),
    "a decorated method under super": (
        "@staticmethod\ndef g(x):\n    return x",
        "def g(self, x):\n    return super().g(x)",
        {},
    ),
    "a decorator that the successor lacks": (
        "@torch.no_grad()\ndef g(self, x):\n    return x",
        "def g(self, x):\n    return super().g(x)",
        {},
    ),
    "super().other() where both have the method": (
        "def g(self):\n    return 1\n\ndef h(self):\n    return 2",
        "def h(self):\n    return super().g()",
        {},
    ),
    "a name bound twice": ("size = 1\nsize = 2", "size = 3", {}),
    "a setter": (
        "@property\ndef g(self):\n    return 1\n\n@g.setter\ndef g(self, x):\n    self.x = x",
        "def h(self):\n    return 1",
        {},
    ),
    "a value that reads one of the class": ("size = 1", "size = 2\nother = size", {}),
    "a default that reads one of the class": ("size = 1", "def g(self, x=size):\n    return x", {}),
    "a value that is drawn": ("size = draw()", "size = 2", {}),
    "a special method": ("def __eq__(self, other):\n    return True", "def g(self):\n    return 1", {}),
    "code in the body": ("size = 1\nif size:\n    size = 2", "def g(self):\n    return 1", {}),
    "used between": (F, F, {"between": "kept = A"}),
    "used between by a function": (F, F, {"between": "def make():\n    return A()"}),
    "code between": (F, F, {"between": "things = draw()"}),
    "what it reads is bound anew between": ("size = SIZE", F, {"between": "SIZE = 2"}),
    "two bases": (F, F, {"base": "Base, nn.Module"}),
    "a base that is not known": (F, F, {"base": "Registry"}),
    "a metaclass": (F, F, {"base": "Base, metaclass=Meta"}),
}


@pytest.mark.parametrize("name", LEFT)
def test_classes_that_are_left_alone(name: str) -> None:
    first, second, more = LEFT[name]
    program = two(first, second, run="A, draw, kept, things, SIZE, make", **more)
    assert classes(fold(program)).count("A") == 2


@pytest.mark.parametrize(
    "line",
    [
        "globals()['A']",
        "(globals, 1)[0]()['A']",
        "getattr(__main__, 'A')",
        "exec('A()')",
        "A.__bases__",
        "A.__mro__",
        "sys.modules",
        "open('x')",
        "vars()",
        "A.__doc__",
    ],
)
def test_a_program_that_may_see_how_it_is_written_is_left_alone(line: str) -> None:
    program = two(F, F, run=line)
    assert fold(program) == program
    assert fold(two(F, F)) != two(F, F)
    unused = f"import math\n\n\ndef train(run):\n    return {line}\n"
    assert without_unused(unused) == unused


def test_a_decorated_class_or_two_bases_of_the_subclass_are_left_alone() -> None:
    for old, new in [
        ("class A(A)", "@wrap\nclass A(A)"),
        ("class A(A)", "class A(A, Base)"),
        ("class A(A)", "class A(B)"),
    ]:
        program = two(F, F, run="A, wrap, B").replace(old, new)
        assert fold(program) == program


# -- what nothing uses --


def test_what_nothing_uses_goes_and_what_uses_it() -> None:
    program = dedent("""\
        import math
        import os
        from collections.abc import Callable, Iterator

        # Model
        DEPTH = 1
        STD = 1 / math.sqrt(DEPTH)
        UNUSED = 2 * DEPTH

        # Sizes
        ALSO = UNUSED
        KEPT: int = 3


        def first(x):
            return second(x) if x else ALSO


        def second(x):
            return first(x)


        class Lonely:
            size = KEPT


        def train(run: Callable):
            return KEPT
        """)
    assert fold(program) == dedent("""\
        from collections.abc import Callable

        # Sizes
        KEPT: int = 3


        def train(run: Callable):
            return KEPT
        """)


@pytest.mark.parametrize(
    "line",
    [
        "X = torch.randn(3)",  # draws random numbers
        "X = [f() for f in LIST]",
        "X = max(1, 2)\nmax = print",
        "torch.set_num_threads(1)",
        "@register\ndef X(): pass",
        "class X(Registry): pass",
        "class X:\n    size = draw()",
        "def X(x=draw()): pass",
        "from __future__ import annotations",
        "from things import *",
        "import torch.fx as X\nY = torch.fx\nprint(Y)",
        "__version__ = 1",
        "for X in range(3): pass",
        "X: int",
        "X = 1\nX += 1",
        "X = 1\nprint('the X')",
        "X = Y = print()",
        "NAMES = iter(LIST)\nX = list(NAMES)\nprint(NAMES)",  # uses up an iterator
        "NAMES = (name for name in LIST)\nX = [name for name in NAMES]\nprint(NAMES)",
        "NAMES = iter(LIST)\nX, Y = NAMES\nprint(NAMES)",
        "X = max(LIST, key=note)",
        "THING = draw()\nX = THING.size\nprint(THING)",  # may be a property
        "THING = draw()\nX = THING + 1\nprint(THING)",
        "LIST = []\nfill(LIST)\nX = LIST[0] + 1\nprint(LIST)",
        "import somebodys_package",  # may do anything
    ],
)
def test_what_may_have_an_effect_stays(line: str) -> None:
    program = f"{line}\n\n\ndef train(run):\n    return 1\n"
    assert without_unused(program) == program
