"""The splice: where each statement of an overlay goes, what is dropped, and what the program then computes."""

import ast
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.programs.compare import line_counts, unified_diff
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.splice import changes_of, needs_of, old_values, splice

ROOT = Path(__file__).parents[2]


def text(source: str) -> str:
    return textwrap.dedent(source).removeprefix("\n")


def overlay(source: str) -> str:
    return "from baseline import *\n" + text(source)


def run(*sources: str) -> dict[str, object]:
    """What the names are worth after the sources ran one after the other, as `from baseline import *` would have it."""
    namespace: dict[str, object] = {}
    for source in sources:
        exec(compile(source.replace("from baseline import *\n", ""), "program", "exec"), namespace)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def check(baseline: str, change: str, expected: str) -> None:
    assert splice(text(baseline), overlay(change)) == text(expected)


GPT = text(
    '''
    #!/usr/bin/env python
    """A small GPT: the program to beat."""

    from __future__ import annotations

    import math
    import torch
    import torch.nn.functional as F

    # Model
    DEPTH = 4
    WIDTH = 128  # channels
    HEADS = WIDTH // 32
    MLP_WIDTH = 4 * WIDTH

    # Optimization
    BATCH_SIZE = 32  # sequences
    LEARNING_RATE = 3e-4
    WARMUP = 0.1  # fraction of the budget


    def norm(x):
        return F.layer_norm(x, (x.size(-1),))


    class Block(torch.nn.Module):
        """Attention, then an MLP."""

        def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
            return x + self.mlp(norm(x))

        # no dropout


    # Warm up, then decay to zero.
    def schedule(progress):
        return min(progress / WARMUP, 1.0) * (1 - progress)


    def train(run):
        model = [Block() for _ in range(DEPTH)]
        for tokens, targets in run.batches(BATCH_SIZE):
            step(model, tokens, targets, LEARNING_RATE * schedule(run.progress))
        return model
    '''
)

# -- the examples of the design ----------------------------------------------------------------------------------------


def test_a_function_takes_the_place_of_the_old_one():
    change = '"""RMSNorm instead of LayerNorm."""\nfrom baseline import *\n\ndef norm(x, weight=None):\n    return 1\n'
    old = "def norm(x):\n    return F.layer_norm(x, (x.size(-1),))\n"
    assert splice(GPT, change) == GPT.replace(old, "def norm(x, weight=None):\n    return 1\n")


def test_a_constant_that_reads_its_old_value_stands_below_it():
    old = "BATCH_SIZE = 32  # sequences\n"
    assert splice(GPT, overlay("BATCH_SIZE = BATCH_SIZE // 2\n")) == GPT.replace(
        old, old + "BATCH_SIZE = BATCH_SIZE // 2\n"
    )


def test_derived_constants_follow():
    program = splice(GPT, overlay("WIDTH = 64\n"))
    assert program == GPT.replace("WIDTH = 128  # channels", "WIDTH = 64  # channels")
    constants = program[program.index("# Model") : program.index("def norm")]
    assert (run(constants)["HEADS"], run(constants)["MLP_WIDTH"]) == (2, 256)


def test_a_class_that_extends_itself_stands_below_it():
    program = splice(GPT, overlay("class Block(Block):\n    def forward(self, x):\n        return x\n"))
    added = "\n\nclass Block(Block):\n    def forward(self, x):\n        return x\n"
    assert program == GPT.replace("    # no dropout\n", "    # no dropout\n" + added)


def test_a_whole_idea():
    change = text(
        '''
        """Squared ReLU, half the batch, and another norm."""
        from __future__ import annotations

        from baseline import *
        import os
        import torch

        TRACK = "cpu"

        SCALE = 2  # of the residual
        LEARNING_RATE = 1e-3 * SCALE

        # Half as much,
        # twice as often.
        BATCH_SIZE = BATCH_SIZE // 2


        def square(x):
            return x * x

        def norm(x):
            """No mean."""
            return square(x)
        '''
    )
    diff = unified_diff(GPT, splice(GPT, change))
    assert re.sub(r"(?m)^ $", "", diff) == text(
        '''
        --- baseline
        +++ program
        @@ -6,6 +6,7 @@
         import math
         import torch
         import torch.nn.functional as F
        +import os

         # Model
         DEPTH = 4
        @@ -15,12 +16,21 @@

         # Optimization
         BATCH_SIZE = 32  # sequences
        -LEARNING_RATE = 3e-4
        +# Half as much,
        +# twice as often.
        +BATCH_SIZE = BATCH_SIZE // 2
        +SCALE = 2  # of the residual
        +LEARNING_RATE = 1e-3 * SCALE
         WARMUP = 0.1  # fraction of the budget


        +def square(x):
        +    return x * x
        +
        +
         def norm(x):
        -    return F.layer_norm(x, (x.size(-1),))
        +    """No mean."""
        +    return square(x)


         class Block(torch.nn.Module):
        '''
    )
    assert line_counts(GPT, splice(GPT, change)) == (12, 2)


# -- what replaces what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "change", "expected"),
    [
        ("X = 1\nY = 2\n", "X = 3", "X = 3\nY = 2\n"),
        ("X = 1\nY = 2\n", "X: int = 3", "X: int = 3\nY = 2\n"),
        ("X: int = 1\nY = 2\n", "X = 3", "X = 3\nY = 2\n"),
        ("X = 1\nY = 2\n", "X += 3", "X = 1\nX += 3\nY = 2\n"),
        ("X = 1\nX += 1\nY = X\n", "X = 3", "X = 1\nX = 3\nY = X\n"),
        ("X = 1\nY = X\nX = 2\n", "X = 3", "X = 1\nY = X\nX = 3\n"),
        # A statement that binds more than the override stays.
        ("A, B = 1, 2\nC = B\n", "B = 3", "A, B = 1, 2\nB = 3\nC = B\n"),
        ("A, *B = 1, 2\nC = A\n", "B = []\nA = 0", "B = []\nA = 0\nC = A\n"),
        ("A = B = 1\n", "A = 3", "A = B = 1\nA = 3\n"),
        ("A = 1\nB = 2\nC = A + B\n", "A, B = 3, 4", "A = 1\nA, B = 3, 4\nC = A + B\n"),
        ("A = 1\nC = A\nB = 2\n", "A, B = 3, 4", "A = 1\nC = A\nA, B = 3, 4\n"),
        ("(A := 1)\nB = A\n", "A = 2", "(A := 1)\nA = 2\nB = A\n"),
        ("X = 1\nY = 2\n", "(X := 3)", "X = 1\n(X := 3)\nY = 2\n"),
        ("X = 1\nY = 2\n", "print([X := i for i in range(3)])", "X = 1\nprint([X := i for i in range(3)])\nY = 2\n"),
        # What is bound only on a condition cannot replace.
        ("X = 1\nY = X\n", "if Z:\n    X = 2", "X = 1\nif Z:\n    X = 2\nY = X\n"),
        ("X = 1\nY = X\n", "for X in range(3):\n    pass", "X = 1\nfor X in range(3):\n    pass\nY = X\n"),
        ("X = 1\nY = X\n", "with f() as X:\n    pass", "X = 1\nwith f() as X:\n    pass\nY = X\n"),
        ("X = 1\nY = X\n", "while X:\n    X -= 1", "X = 1\nwhile X:\n    X -= 1\nY = X\n"),
        (
            "X = 1\nY = X\n",
            "try:\n    import X\nexcept E as X:\n    pass",
            "X = 1\ntry:\n    import X\nexcept E as X:\n    pass\nY = X\n",
        ),
        (
            "X = 1\nY = X\n",
            "match Z:\n    case [X, *_]:\n        0",
            "X = 1\nmatch Z:\n    case [X, *_]:\n        0\nY = X\n",
        ),
        ("X = 1\nY = 2\n", "del X", "X = 1\ndel X\nY = 2\n"),
        # A choice of the baseline can be replaced, unless it does something else, too.
        ("if C:\n    X = 1\nelse:\n    X = 2\nY = X\n", "X = 3", "X = 3\nY = X\n"),
        ("if C:\n    X = 1\n    f()\nY = X\n", "X = 3", "if C:\n    X = 1\n    f()\nX = 3\nY = X\n"),
        ("X = A.b = 1\nY = X\n", "X = 3", "X = A.b = 1\nX = 3\nY = X\n"),
        ("try:\n    import X\nexcept E:\n    X = None\nY = X\n", "X = 3", "X = 3\nY = X\n"),
        # Several statements that bind one name keep their order.
        ("X = 1\nY = X\n", "X = 2\nX = X + 1", "X = 2\nX = X + 1\nY = X\n"),
        ("X = 1\nY = X\n", "X = X + 1\nX = 3", "X = 1\nX = X + 1\nX = 3\nY = X\n"),
        # Inside of functions and classes nothing is bound for the module.
        ("X = 1\nY = 2\n", "def f():\n    X = 2", "X = 1\nY = 2\n\n\ndef f():\n    X = 2\n"),
        ("X = 1\nY = 2\n", "class A:\n    X = 2", "X = 1\nY = 2\n\n\nclass A:\n    X = 2\n"),
        ("X = 1\nY = 2\n", "X: int", "X = 1\nY = 2\nX: int\n"),
        ("x = 1\nY = 2\n", "Z = [x for x in Y]", "x = 1\nY = 2\nZ = [x for x in Y]\n"),
    ],
)
def test_which_statement_is_replaced(baseline, change, expected):
    check(baseline, change, expected)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("def norm(x):\n    return norm(x)", False),  # recursion
        ("def norm(x, old=norm):\n    return old(x)", True),
        ("@wraps(norm)\ndef norm(x):\n    return x", True),
        ("def wrap(f):\n    return norm\n\n\n@wrap\ndef norm(x):\n    return x", True),
        ("def norm(x: norm):\n    return x", True),
        ("def norm(x) -> norm:\n    return x", True),
        ("async def norm(x):\n    return norm(x)", False),
        ("norm = lambda x: norm(x)", False),
        ("norm = lambda x, old=norm: old(x)", True),
        ("norm = compile(norm)", True),
        ("norm = [norm for norm in range(3)]", False),
        ("class norm(norm):\n    pass", True),
        ("class norm(metaclass=norm):\n    pass", True),
        ("class norm:\n    old = norm", True),
        ("class norm:\n    def f(self):\n        return norm", False),
        ("class norm:\n    def f(self, x=norm):\n        return x", True),
        ("old = norm\n\n\ndef norm(x):\n    return old(x)", True),
        ("def use():\n    return norm(1)\n\n\nnorm = use()", True),
        ("def use():\n    return norm(1)\n\n\ndef norm(x):\n    return use", False),
        ("def one():\n    return norm(1)\n\n\ndef two():\n    return one()\n\n\nnorm = two()", True),
        ("def use():\n    return norm(1)\n\n\nalias = use\nnorm = alias()", True),
        ("norm = list(map(lambda x: norm(x), [1]))", True),
        ("def use(norm):\n    return norm\n\n\nnorm = use(1)", False),  # its own parameter
        ("def use():\n    norm = 1\n    return norm\n\n\nnorm = use()", False),  # its own local
        ("def use():\n    global norm\n    norm = norm + 1\n\n\nnorm = use()", True),
        ("def norm(x):\n    return x\n\n\nX = norm(3)", False),  # reads the new one
    ],
)
def test_the_old_one_stays_where_it_is_read(change, kept):
    baseline = "def norm(x):\n    return 'old'\n\n\ndef train(run):\n    return norm\n"
    assert ("'old'" in splice(baseline, overlay(change))) == kept


def test_annotations_that_are_never_evaluated_read_nothing():
    baseline = "from __future__ import annotations\n\n\ndef norm(x):\n    return 'old'\n\n\nclass Later: ...\n"
    program = splice(baseline, overlay("def norm(x: Later) -> norm:\n    return 1\n"))
    assert program == baseline.replace("norm(x):\n    return 'old'", "norm(x: Later) -> norm:\n    return 1")


# -- where new names go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "change", "expected"),
    [
        # Before the next override, else at the end.
        ("A = 1\nB = 2\n", "N = 3\nB = N", "A = 1\nN = 3\nB = N\n"),
        ("A = 1\nB = 2\n", "A = 3\nN = 4", "A = 3\nB = 2\nN = 4\n"),
        ("A = 1\n# end\n", "N = 4", "A = 1\n# end\nN = 4\n"),
        ("A = 1\n", "A.b = f\nassert A", "A = 1\nA.b = f\nassert A\n"),
        # Up, before the first that reads it at once.
        ("A = 1\nB = 2\n", "N = 3\nB = 0\nA = N", "N = 3\nA = N\nB = 0\n"),
        (
            "A = 1\nB = 2\n",
            "def n():\n    return 3\n\n\nB = 0\nA = n()",
            "def n():\n    return 3\n\n\nA = n()\nB = 0\n",
        ),
        (
            "A = 1\nB = 2\n",
            "def m():\n    return 3\n\ndef n():\n    return m()\n\nB = 0\nA = n()",
            "def m():\n    return 3\n\n\ndef n():\n    return m()\n\n\nA = n()\nB = 0\n",
        ),
        # Up, before a statement of the baseline that will need it.
        (
            "def f():\n    return 1\n\n\nX = f()\n",
            "def f():\n    return g()\n\n\ndef g():\n    return 2\n",
            "def f():\n    return g()\n\n\ndef g():\n    return 2\n\n\nX = f()\n",
        ),
        # Down, behind all that it reads at once.
        ("A = 1\nB = 2\nC = 3\n", "N = C\nA = 0", "A = 0\nB = 2\nC = 3\nN = C\n"),
        ("A = 1\nB = 2\n", "OLD = B\nA = 0\nB = OLD + 1", "A = 0\nB = 2\nOLD = B\nB = OLD + 1\n"),
        # An override that reads what is bound further down follows it there; what lies between keeps the old value.
        ("A = 1\nB = 2\n", "B = 5\nA = 2 * B", "A = 1\nB = 5\nA = 2 * B\n"),
        ("A = 1\nM = A\nB = 2\n", "A = 2 * B", "A = 1\nM = A\nB = 2\nA = 2 * B\n"),
        (
            "A, B = 1, 2\nM = B\nC = 3\n",
            "A = 5\nB = C",
            "A, B = 1, 2\nA = 5\nM = B\nC = 3\nB = C\n",
        ),
        # Statements that act keep their order.
        ("f = print\nB = 1\nC = 2\n", "f(1)\nC = 3\nf(2)\nB = 5", "f = print\nB = 5\nC = 3\nf(1)\nf(2)\n"),
        (
            "A = {}\nB = 1\nC = 2\n",
            "A['x'] = 1\nC = 3\nA['x'] = 2\nB = 5",
            "A = {}\nB = 5\nC = 3\nA['x'] = 1\nA['x'] = 2\n",
        ),
    ],
)
def test_where_a_new_name_goes(baseline, change, expected):
    check(baseline, change, expected)


@pytest.mark.parametrize(
    ("baseline", "change"),
    [
        ("A = 1\nB = 2\nC = 3\n", "N = C\nA = N"),
        ("A = 1\nB = 2\nC = 3\n", "B = C\nC = B + A\nA = C"),
        ("A = 1\nB = 2\nC = 3\n", "OLD = A\nB = 7\nA = 9\nC = OLD + A"),
        ("A = 1\nB = 2\nC = 3\n", "A, C = C, A\nB = A"),
        ("A = 1\nB = 2\nC = 3\n", "for i in range(2):\n    C = C + i\nA = C"),
        ("A = [1]\nB = 2\nC = 3\n", "A.append(B)\nB = len(A)\nA = A + [B]"),
        ("A = {}\nB = 2\nC = 3\n", "A['x'] = C\nC = 1\nB = len(A)"),
        ("def f():\n    return C\nB = 2\nC = 3\n", "B = f()\nC = 4\nD = f()"),
        ("def f():\n    return C\nB = 2\nC = 3\n", "g = f\nB = g() + 1\ndef f():\n    return 5\nC = f()"),
        ("A = 1\nB = 2\nC = 3\n", "C = 4\nif C > 3:\n    A = 5\nelse:\n    B = 6\nB = A"),
        ("A, B = 1, 2\nC = 3\n", "A = B\nB = C\nC = A"),
        ("A = 1; B = 2; C = 3\n", "B = A; A = B + C; D = A"),
    ],
)
def test_the_program_computes_what_overlay_after_baseline_would(baseline, change):
    """True wherever the baseline derives nothing from what the overlay binds."""
    values, expected = run(splice(baseline, overlay(change))), run(baseline, overlay(change))
    assert {k: v for k, v in values.items() if not callable(v)} == {
        k: v for k, v in expected.items() if not callable(v)
    }


def test_a_monkeypatch_goes_to_the_end_with_its_function():
    program = splice(GPT, overlay("def forward(self, x):\n    return x\n\nBlock.forward = forward\n"))
    assert program == GPT + "\n\ndef forward(self, x):\n    return x\n\n\nBlock.forward = forward\n"


def test_directives_are_never_spliced():
    change = """
        # Only there.
        TRACK = "cuda"
        GOAL: str = "simplify"
        SEARCH_SPACE = {"X": [1, 2]}
        CONSTRAINTS, VARY = ["X < 3"], 1
        # end
    """
    assert splice("X = 1\n", overlay(change)) == "X = 1\n"
    assert splice("X = 1\n", overlay("SEED = {}")) == "X = 1\nSEED = {}\n"  # a name like any other


# -- imports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "change", "expected"),
    [
        ("import a\nX = 1\n", "import a\n", "import a\nX = 1\n"),
        ("import a.b as c, d\n", "import d\nimport a.b as c\n", "import a.b as c, d\n"),
        ("from a import b, c\nX = 1\n", "from a import c\n", "from a import b, c\nX = 1\n"),
        ("import a\n\nX = 1\n", "import b\nfrom c import d\n", "import a\nimport b\nfrom c import d\n\nX = 1\n"),
        ("import a\n\nX = 1\n", "import a, b\n", "import a\nimport a, b\n\nX = 1\n"),
        ("import a\n\nX = 1\n", "import a.b\n", "import a\nimport a.b\n\nX = 1\n"),
        ("import a.b\n\nX = 1\n", "import a\n", "import a.b\nimport a\n\nX = 1\n"),
        ("from x import a\n\nX = 1\n", "import a.b\n", "from x import a\nimport a.b\n\nX = 1\n"),
        ("from .x import a\n\nX = 1\n", "from x import a\n", "from x import a\n\nX = 1\n"),
        ('"""Doc."""\n\nX = 1\n', "import a\n", '"""Doc."""\n\nimport a\n\nX = 1\n'),
        ("X = 1\n", "import a\n", "import a\n\nX = 1\n"),
        ("#!/bin/python\n# One.\nX = 1\n", "import a\n", "#!/bin/python\n# One.\nimport a\n\nX = 1\n"),
        ("# Licence.\n\n# One.\nX = 1\n", "import a\n", "# Licence.\n\n# One.\nimport a\n\nX = 1\n"),
        # A late import may rely on what is bound above it, an early one may need the environment set.
        ("import os\nos.environ['A'] = '1'\nimport t\nX = t.f()\nimport u\n", "import a\n",
         "import os\nos.environ['A'] = '1'\nimport t\nimport a\n\nX = t.f()\nimport u\n"),
        ("import os\nif T:\n    import t\nimport u\nX = 1\n", "import a\n",
         "import os\nif T:\n    import t\nimport u\nimport a\n\nX = 1\n"),
        ("import os\nif T:\n    import t\nX = 1\n", "if T:\n    from u import V\nX = 2\n",
         "import os\nif T:\n    import t\nX = 2\nif T:\n    from u import V\n"),
        # One that binds a name of the baseline is an override.
        ("import a\n\n\ndef norm(x):\n    return x\n\n\nX = norm\n", "from b import norm\n",
         "import a\n\n\nfrom b import norm\n\n\nX = norm\n"),
        ("from a import norm\nimport z\n", "from b import norm\n", "from b import norm\nimport z\n"),
        ("import a\na = 3\n", "import a\n", "import a\na = 3\n\nimport a\n"),
        ("import z\nX = 1\n", "import m\nm = m.f()\nX = m\n", "import z\nimport m\n\nm = m.f()\nX = m\n"),
        # The future comes first.
        ('"""Doc."""\nimport a\n', "from __future__ import annotations\n",
         '"""Doc."""\n\nfrom __future__ import annotations\nimport a\n'),
        ("import a\n", "import b\n", "import a\nimport b\n"),
        ("X = 1\n", "from __future__ import annotations\nimport b\n",
         "from __future__ import annotations\nimport b\n\nX = 1\n"),
        ("from __future__ import annotations\nX = 1\n", "from __future__ import annotations\n",
         "from __future__ import annotations\nX = 1\n"),
        ("from __future__ import annotations\nX = 1\n", "from __future__ import annotations, division\n",
         "from __future__ import annotations, division\nfrom __future__ import annotations\nX = 1\n"),
    ],
)  # fmt: skip
def test_imports(baseline, change, expected):
    future = "from __future__" in change  # which Python wants first in the overlay, too
    source = text(change) + "from baseline import *\n" if future else overlay(change)
    assert splice(baseline, source) == expected


# -- comments and spacing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "change", "expected"),
    [
        # The comments of what is dropped say what the name is.
        ("# Size\nX = 1  # seqs\nY = 2\n", "X = 3", "# Size\nX = 3  # seqs\nY = 2\n"),
        ("X = 1  # seqs\nY = 2\n", "X = 3 # mine", "X = 3 # mine\nY = 2\n"),
        ("X = 1    #seqs\n", "X = 3;", "X = 3    #seqs\n"),
        ("X = [  # seqs\n    1]  # last\n", "X = 3", "X = 3  # last\n"),
        ("X = 1  # seqs\n", "X = [\n    3]", "X = [\n    3]  # seqs\n"),
        ("X = 1  # seqs\n       # each\nY = 2\n", "X = 3", "X = 3  # seqs\n       # each\nY = 2\n"),
        ("# Size\nX = 1\n", "# Mine\nX = 3", "# Size\n# Mine\nX = 3\n"),
        ("# Size\nX = 1\n", "# Size\nX = 3", "# Size\nX = 3\n"),
        # A new name goes above them.
        ("import a\n\n# Size\nX = 1\n", "N = 2\nX = N", "import a\n\nN = 2\n\n# Size\nX = N\n"),
        ("# Part\n\n# Size\nX = 1\n", "N = 2\nX = N", "N = 2\n# Part\n\n# Size\nX = N\n"),
        # The comments of the overlay travel along.
        ("X = 1\nY = 2\n", "# Why\n# so\nX = X + 1  # end", "X = 1\n# Why\n# so\nX = X + 1  # end\nY = 2\n"),
        ("X = 1\nY = 2\n", "\n\n# Part\n\n# Why\nX = 3\n\n# End\n", "# Part\n\n# Why\nX = 3\nY = 2\n"),
        ("X = 1\n", "N = 2\n'''Of N.'''\nX = 3\n", "X = 3\nN = 2\n'''Of N.'''\n"),
        ("X = 1\n'''Of X.'''\nY = 2\n", "X = 3\n", "X = 3\n'''Of X.'''\nY = 2\n"),
        ("X = 1\n'''Of X.'''\nY = 2\n", "X = 3\n'''New.'''\n", "X = 3\n'''New.'''\nY = 2\n"),
        ("X = 1\n\n'''Of\nX.'''  # c\nY = X\n", "X += 3\n", "X = 1\n\n'''Of\nX.'''  # c\nX += 3\nY = X\n"),
        # An indented comment belongs to the body above it.
        (
            "def f():\n    pass\n\n    # more\n\n\nX = 1\n",
            "def f():\n    return 1",
            "def f():\n    return 1\n\n\nX = 1\n",
        ),
        ("X = 1\n", "def f():\n    pass\n    # more\n", "X = 1\n\n\ndef f():\n    pass\n    # more\n"),
        # Two blank lines around a new definition; the baseline's own spacing where one replaces another.
        ("X = 1\nY = 2\n", "def X():\n    pass", "def X():\n    pass\n\n\nY = 2\n"),
        ("Z = 0\nX = 1\nY = 2\n", "def X():\n    pass", "Z = 0\n\n\ndef X():\n    pass\n\n\nY = 2\n"),
        ("Z = 0\ndef f(): pass\nY = 2\n", "def f():\n    pass", "Z = 0\ndef f():\n    pass\nY = 2\n"),
        ("Z = 0\n\n\n\nX = 1\n\nY = 2\n", "X = 3", "Z = 0\n\n\n\nX = 3\n\nY = 2\n"),
        ("Z = 0\n\nX = 1\n\nY = 2\n", "X = 3\n\n\n\nX = X + 1", "Z = 0\n\nX = 3\nX = X + 1\n\nY = 2\n"),
        ("Z = 0\n\nX = 1\nB = 2\n", "X = B", "Z = 0\n\nX = 1\nB = 2\nX = B\n"),
        # The end of the file.
        ("X = 1", "X = 3", "X = 3\n"),
        ("X = 1\n\n\n\n", "Y = 3\n\n\n", "X = 1\nY = 3\n"),
        ("X = 1\n\n# End", "X = 3", "X = 3\n\n# End\n"),
        ("def f(): pass\n", "X = 3", "def f(): pass\n\n\nX = 3\n"),
        ("", "X = 3", "X = 3\n"),
        ("# Nothing\n", "X = 3", "# Nothing\nX = 3\n"),
    ],
)
def test_comments_and_spacing(baseline, change, expected):
    check(baseline, change, expected)


@pytest.mark.parametrize(
    ("baseline", "change", "expected"),
    [
        ("A = 1; B = 2  # both\nC = 3\n", "B = 4", "A = 1\nB = 4  # both\nC = 3\n"),
        ("A = 1; B = 2; C = 3;\n", "B = 4; A = 5", "A = 5\nB = 4\nC = 3;\n"),
        ("A = 1; \\\n  B = 2\n", "A = 4", "A = 4\nB = 2\n"),
        ("A = '''x\n'''; B = 2\n", "B = 4", "A = '''x\n'''\nB = 4\n"),
        ("A = 1 + \\\n    2\nB = 3\n", "A = 4", "A = 4\nB = 3\n"),
        ("A = 1\n\\\nB = 2\nC = 3\n", "B = 4", "A = 1\nB = 4\nC = 3\n"),
        ("A = 1 \\\n\nB = 2\n", "A = 4", "A = 4 \\\n\nB = 2\n"),
        ("# odd \\\nA = 1  # odd \\\nB = 2\n", "A = 4", "# odd \\\nA = 4  # odd \\\nB = 2\n"),
        ("A = '''\nB = 1\n# no comment\n'''\nB = 2\n", "B = 3", "A = '''\nB = 1\n# no comment\n'''\nB = 3\n"),
        ("A = 'é€😀'; B = 'ü'  # ñ\nC = 1\n", "C = A", "A = 'é€😀'\nB = 'ü'  # ñ\nC = A\n"),
        ("é = 'é€😀'  # ñ\nC = 1\n", "é = '€'", "é = '€'  # ñ\nC = 1\n"),
        ("A = 1\n\x0cB = 2\nC = '\x0b\u2028\x85'\nD = 4\n", "D = 5", "A = 1\n\x0cB = 2\nC = '\x0b\u2028\x85'\nD = 5\n"),
        ("A = 1\n\x0c\nB = 2\n", "B = 5", "A = 1\n\x0c\nB = 5\n"),
        ("if A:\n\tX = 1\n\t# tab\nB = 2\n", "B = 3", "if A:\n\tX = 1\n\t# tab\nB = 3\n"),
        ("@(  # why\n  deco)\n@two\ndef f(): pass\nA = f\n", "def f(): return 1", "def f(): return 1\nA = f\n"),
        ("A = 1\n", "# Why\n@(\n  deco)\n@two\ndef A(): pass", "# Why\n@(\n  deco)\n@two\ndef A(): pass\n"),
        ("if A: B = 1; C = 2\nD = 3\n", "D = 4", "if A: B = 1; C = 2\nD = 4\n"),
        ("(A\n )\nB = 2\n", "B = 4", "(A\n )\nB = 4\n"),
        ("\ufeffA = 1\n", "A = 2", "A = 2\n"),
        ("A = 1\r\nB = '''\r\n'''\r\n", "A = 2", "A = 2\nB = '''\n'''\n"),
    ],
)
def test_odd_sources(baseline, change, expected):
    check(baseline, change, expected)


@pytest.mark.parametrize("baseline", ["", "X = 1", "\ufeffX = 1; Y = 2\r\n\r\n", GPT, "# only\n"])
@pytest.mark.parametrize("change", ["", "# a comment\n", "TRACK = 'cpu'\n", "'''Doc.'''\n"])
def test_no_change_leaves_every_byte(baseline, change):
    assert splice(baseline, overlay(change)) == baseline
    assert splice(baseline, f'"""Why."""\n{overlay(change)}') == baseline


# -- the shipped experiments -------------------------------------------------------------------------------------------

SHIPPED = [
    (track, path)
    for track in ("cpu", "cuda")
    for path in sorted((ROOT / "experiments").glob("[!_]*.py"))
    if read_experiment(path, path.parent).track in (None, track)
]


@pytest.mark.parametrize(("track", "path"), SHIPPED, ids=[f"{track}-{path.stem}" for track, path in SHIPPED])
def test_a_shipped_experiment_reads_well_and_may_be_promoted(track, path):
    path_of_baseline = ROOT / f"baseline/{track}/train.py"
    baseline, change = path_of_baseline.read_text(), path.read_text()
    experiment = read_experiment(path, path.parent)
    program = experiment.program(baseline, path_of_baseline).source
    assert not re.search(r"(?m)\n{4}|^[^@#\n].*\n{1,2}(class|def) ", program)  # two blank lines, as PEP 8 wants
    changes = changes_of(change)
    if not old_values(changes, needs_of([], changes)) & {n for piece in changes for n in piece.names.binds}:
        assert splice(program, change) == program
    assert experiment.program(program, path_of_baseline)  # no name is unknown


# -- properties --------------------------------------------------------------------------------------------------------

NAMES = [f"{letter}{letter}" for letter in "ABCDEFGH"]
NEW_NAMES = [f"new_{letter}" for letter in "stuvw"]

comments = st.lists(st.sampled_from(["", "", "# one", "# zwei – ñ", "#three", "    # indented", "\t# tab"]), max_size=3)
trailing = st.sampled_from(["", "", "  # last", " ;  # semicolon", ";"])


@st.composite
def sources(draw, names: list[str], reads: list[str], numbered: str):
    """Statements that bind each of the names once, between comments that occur once. They read only what is bound."""
    lines: list[str] = []
    bound: list[str] = []
    for name in names:
        for number, comment in enumerate(draw(comments)):
            comment = (
                comment if name != names[0] else comment.lstrip()
            )  # an indented one belongs to the statement above it
            lines.append(f"{comment} {numbered}{name}{number}" if comment else "")
        readable = [*reads, *bound]
        operand = draw(st.sampled_from([*readable, "3"])) if readable else "3"
        value = f"[{draw(st.integers(0, 99))}, {operand}]"
        kind = draw(st.sampled_from(["constant", "constant", "long", "typed", "function", "class"]))
        rest = draw(trailing)
        lines += {
            "constant": [f"{name} = {value}{rest}{numbered if '#' in rest else ''}"],
            "long": [f"{name} = (", f"    {value}  # in {numbered}{name}", f"){rest}"],
            "typed": [f"{name}: int = {value}{rest}"],
            "function": [f"def {name}(x={value}):", f"    return x  # in {numbered}{name}", ""],
            "class": [f"class {name}:", f"    y = {value}"],
        }[kind]
        if kind not in ("function", "class"):
            bound.append(name)
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n# end " + numbered]))


@st.composite
def baselines_and_overlays(draw, self_reading: bool = True):
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    baseline = draw(sources(names, [], "b"))
    overrides = draw(st.lists(st.sampled_from([*names, *NEW_NAMES]), unique=True, max_size=5))
    constants = [name for name in names if f"\n{name} =" in "\n" + baseline] if self_reading else []
    return baseline, "from baseline import *\n\n# o\n" + draw(sources(overrides, constants, "o"))


def name_of(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
            return name
        case ast.FunctionDef(name) | ast.ClassDef(name):
            return name
    return ""


def comments_of(source: str, without: frozenset[str] = frozenset()) -> set[str]:
    """The comments of a source, without those on the lines of some names' statements, or indented below them."""
    lines = source.split("\n")
    for statement in reversed(ast.parse(source).body):
        if name_of(statement) in without:
            del lines[statement.lineno - 1 : statement.end_lineno]
    return {line[line.index("#") :] for line in lines if "#" in line and not (without and line[:1].isspace())}


@settings(max_examples=200, deadline=None)
@given(baselines_and_overlays())
def test_the_result_parses_and_computes_and_keeps_comments(pair):
    baseline, change = pair
    program = splice(baseline, change)
    assert program == baseline or (program.endswith("\n") and not program.endswith("\n\n"))
    run(program)  # no name is read before it is bound

    *_, last = change.split("\n")
    change = change.removesuffix(last) if last.startswith("# end") else change  # comments at the end are left out
    bound = frozenset(name_of(statement) for statement in ast.parse(change).body)
    assert comments_of(program) >= comments_of(baseline, bound)
    if len(bound) > 1:
        assert comments_of(program) >= comments_of(change)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(1, 99), min_size=2, max_size=6),
    changes=st.dictionaries(st.integers(0, 5), st.integers(100, 199), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_derived_constants_are_computed_from_the_new_values(values, changes, order):
    """Against a plain reference: the baseline with the numbers themselves replaced."""
    changes = {index: value for index, value in changes.items() if index < len(values)}

    def baseline(numbers):
        pairs = [
            f"N{i} = {n}  # n{i}\nD{i} = {' + '.join(f'N{j}' for j in range(i + 1))}" for i, n in enumerate(numbers)
        ]
        return "\n".join(pairs) + "\n"

    lines = [f"N{index} = {value}\n" for index, value in changes.items()]
    order.shuffle(lines)
    expected = baseline([changes.get(index, value) for index, value in enumerate(values)])
    assert splice(baseline(values), overlay("".join(lines))) == expected


@settings(max_examples=150, deadline=None)
@given(baselines_and_overlays(self_reading=False))
def test_splicing_twice_changes_nothing_more(pair):
    baseline, change = pair
    once = splice(baseline, change)
    assert splice(once, change) == once


@settings(max_examples=75, deadline=None)
@given(baselines_and_overlays())
def test_line_ends_do_not_matter(pair):
    baseline, change = pair
    assert splice(baseline, change.replace("\n", "\r\n")) == splice(baseline, change)
    if splice(baseline, change) != baseline:
        assert splice(baseline.replace("\n", "\r\n"), "\ufeff" + change) == splice(baseline, change)


@settings(max_examples=75, deadline=None)
@given(baselines_and_overlays())
def test_an_overlay_of_nothing_is_the_identity(pair):
    baseline, _ = pair
    assert splice(baseline, '"""Why."""\nfrom baseline import *\n\n# nothing yet\n') == baseline


CONSTANTS = [f"C{number}" for number in range(5)]
expressions = st.sampled_from(CONSTANTS).flatmap(lambda a: st.sampled_from([f"{a} + 1", f"{a} * 2", f"-{a}", "7"]))
statements = st.one_of(
    st.tuples(st.sampled_from([*CONSTANTS, "new"]), expressions).map(lambda p: f"{p[0]} = {p[1]}\n"),
    st.tuples(st.sampled_from(CONSTANTS), expressions).map(lambda p: f"{p[0]} += {p[1]}\n"),
    st.tuples(st.sampled_from(CONSTANTS), st.sampled_from(CONSTANTS), expressions).map(
        lambda p: f"if {p[0]} > 3:\n    {p[1]} = {p[2]}\n"
    ),
    st.permutations(CONSTANTS).map(lambda p: f"{p[0]}, {p[1]} = {p[2]}, {p[0]}\n"),
    st.tuples(st.sampled_from(CONSTANTS), expressions).map(lambda p: f"def f():\n    return {p[1]}\n\n{p[0]} = f()\n"),
    st.sampled_from(CONSTANTS).map(lambda c: f"log.append({c})\n"),
    # New names: one that keeps an old value, and functions that read what is bound further down.
    st.tuples(st.sampled_from(CONSTANTS), expressions).map(lambda p: f"old = {p[0]}\n{p[0]} = {p[1]} + old\n"),
    st.tuples(st.sampled_from(CONSTANTS), expressions).map(
        lambda p: f"def g():\n    return h()\n\ndef h():\n    return {p[1]}\n\n{p[0]} = g()\n"
    ),
    st.tuples(st.sampled_from(CONSTANTS), expressions).map(
        lambda p: f"log.append({p[0]})\nlast = log.pop()\n{p[0]} = last + 1\n"
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.permutations(CONSTANTS), st.lists(statements, max_size=6))
def test_order_is_kept_where_the_baseline_derives_nothing(names, lines):
    baseline = "log = []\n" + "".join(f"{name} = {number}\n" for number, name in enumerate(names))
    values, expected = run(splice(baseline, overlay("".join(lines)))), run(baseline, overlay("".join(lines)))
    assert {k: v for k, v in values.items() if not callable(v)} == {
        k: v for k, v in expected.items() if not callable(v)
    }
