"""Combining overlays: the same program as applying them one after another."""

import random
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.combine import combine, described, overlay
from pytest_autoresearch.programs.compare import same_program
from pytest_autoresearch.programs.experiment import description_of, parse_experiment
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).parents[2]
HEAD = "from baseline import *\n"


def combined(*overlays: str) -> str:
    return combine([(Path(f"{'abcd'[number]}.py"), text) for number, text in enumerate(overlays)])


def test_statements_imports_comments_and_track() -> None:
    a = f'"""Wide."""\nimport numpy as np\n{HEAD}TRACK = "cpu"\n# why\nWIDTH = np.int64(3)  # channels\n# at the end\n'
    b = f'"""Deep"""\n{HEAD}import numpy as np\nfrom math import pi\n\nDEPTH = 2\n'
    assert combined(a, b) == (
        '"""a + b: Wide. Deep."""\n\nfrom baseline import *\nimport numpy as np\nfrom math import pi\n\n'
        'TRACK = "cpu"\n\n# why\nWIDTH = np.int64(3)  # channels\n\n# at the end\nDEPTH = 2\n'
    )


def test_a_value_that_another_overlay_reads_is_set_above() -> None:
    """One after another, `STD` would see the new `SIZE` as well."""
    text = combined(f"{HEAD}STD = 1 / SIZE\n", f"{HEAD}SIZE = 4\n")
    assert text.index("SIZE = 4") < text.index("STD =")


@pytest.mark.parametrize(
    ("overlays", "message"),
    [
        (
            (f"{HEAD}A = 1\nB = 2\n", f"{HEAD}\n\nB = 3\n"),
            "a.py:3 and b.py:4: both bind `B`; only experiments that bind",
        ),
        ((f"{HEAD}import a.x as n\n", f"{HEAD}import a.y as n\n"), "a.py:2 and b.py:2: both bind `n`"),
        ((f"{HEAD}def f(): pass\n", f"{HEAD}import f\n"), "a.py:2 and b.py:2: both bind `f`"),
        ((f"{HEAD}A = 1\n", "def train(run): pass\n"), "b.py: a complete program; only overlays can be combined"),
        ((f"{HEAD}A = 1\n", f"{HEAD}SEARCH_SPACE = {{'A': [1, 2]}}\n"), "b.py: a sweep; combine one of its points"),
        ((f"{HEAD}A = 1\n", f'{HEAD}GOAL = "simplify"\n'), "b.py: sets GOAL"),
        (
            (f'{HEAD}TRACK = "cpu"\n', HEAD, f'{HEAD}TRACK = "cuda"\n'),
            "a.py: only for track cpu, but c.py only for cuda",
        ),
        ((f"{HEAD}A = 1\n", f"{HEAD}A =\n"), "b.py:2: invalid syntax"),
    ],
)
def test_what_cannot_be_combined(overlays: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        combined(*overlays)
    assert str(caught.value).startswith(message)


def test_an_experiment_does_not_combine_with_itself() -> None:
    with pytest.raises(UsageError, match="both bind `A`"):
        combined(f"{HEAD}A = 1\n", f"{HEAD}A = 1\n")


def test_packages_of_one_name_are_no_collision() -> None:
    text = combined(f"{HEAD}import a.x\nimport a.y\nA = a.x\n", f"{HEAD}import a.x\nB = a.y\n")
    assert text.count("import a.x") == text.count("import a.y") == 1


def test_shipped_experiments_combine_as_one_after_another() -> None:
    experiments = [(path, path.read_text()) for path in sorted((ROOT / "experiments").glob("*.py"))]
    experiments = [each for each in experiments if "SEARCH_SPACE" not in each[1]]
    overlays = [each for each in experiments if parse_experiment(each[0], each[0].parent, each[1]).is_overlay]
    tracks = {path: parse_experiment(path, path.parent, text).track for path, text in overlays}
    pairs = list(combinations(overlays, 2))
    compared, refused = 0, list[str]()
    for a, b in random.Random(11).sample(pairs, len(pairs) // 8):
        try:
            both = combine([a, b])
        except UsageError as error:
            refused.append(str(error))
            continue
        base = (ROOT / f"baseline/{tracks[a[0]] or tracks[b[0]] or 'cpu'}/train.py").read_text()
        assert same_program(splice(base, both), splice(splice(base, a[1]), b[1])), (a[0].stem, b[0].stem)
        compared += 1
    assert compared >= 20
    assert all("both bind" in message or "only for track" in message for message in refused)


# -- any overlays, compared by running them --

NAMES = "ABCDEF"
BASE = "A = 1\nB = A + 1\ndef f():\n    return A + 10 * B\nC = 2 * B\nD = C + A\ndef train(run):\n    return D\n"


def values(*leaves: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(leaves), min_size=1, max_size=3).map(" - ".join)


STATEMENTS = {
    **{name: values(*"ABCD", "3", "f()").map((f"{name} = " + "{}").format) for name in NAMES},
    "f": values(*"ABCD", "3").map("def f():\n    return {}".format),
    "import": st.just("import math"),
}


@st.composite
def two_overlays(draw: st.DrawFn) -> tuple[str, str]:
    names = draw(st.permutations(sorted(STATEMENTS)))
    cut, end = draw(st.integers(1, 3)), draw(st.integers(4, 6))
    a, b = (HEAD + "\n".join(draw(STATEMENTS[name]) for name in part) + "\n" for part in (names[:cut], names[cut:end]))
    return a, b


@settings(max_examples=100, deadline=None)
@given(two_overlays())
def test_any_two_overlays_combine_as_one_after_another(overlays: tuple[str, str]) -> None:
    try:
        both = combine([(Path("a.py"), overlays[0]), (Path("b.py"), overlays[1])], BASE)
    except UsageError as error:
        assume("a.py, b.py: compute values from one another's" not in str(error))
        raise
    assert values_of(splice(BASE, both)) == values_of(splice(splice(BASE, overlays[0]), overlays[1]))


def values_of(program: str) -> dict[str, object]:
    """What the names are after the program has run, and what its functions return."""
    scope: dict[str, object] = {}
    exec(program, scope)
    return {
        name: value() if name == "f" else value  # type: ignore[operator]
        for name, value in scope.items()
        if name in {*NAMES, "f", "math"}
    }


# -- docstrings --


@pytest.mark.parametrize("text", ['says "a"', "ends with \\", 'three """ quotes', "x\ny", "é" * 300])
def test_any_description_makes_a_docstring(text: str) -> None:
    source = overlay(text, "cpu")
    assert description_of(source).startswith(" ".join(text.split())[:50].removesuffix("é" * 50))
    assert max(map(len, source.splitlines())) < 120


@pytest.mark.parametrize(
    "source", ['"""An idea.\n\nMore.\n"""\nA = 1\n', "# first\n'An idea.'\nA = 1\n", 'r"""\nAn idea."""\nA = 1\n']
)
def test_described(source: str) -> None:
    assert description_of(described(source, "new: from old:")) == "new: from old: An idea."


def test_described_without_a_docstring() -> None:
    assert described("A = 1\n", "new") == '"""new"""\n\nA = 1\n'
