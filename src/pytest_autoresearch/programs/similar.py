"""How alike two changes to a baseline are. Docstrings, comments, annotations and the names of locals do not count."""

import ast
import re
from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

from pytest_autoresearch.programs.history import definitions, statements_of

TOLERANCE = 0.1
"""Two numbers whose ratio is at most 1 + TOLERANCE count as the same."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_SCAFFOLD = re.compile(r"(class|def|async def) |@|super\(\).__init__\(|pass$")
"""Lines that say where a change is and not what it is."""
_NAMED = ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.FunctionDef | ast.AsyncFunctionDef
Lines = dict[str, list[str]]
Statement = tuple[Collection[str], ast.stmt]


@dataclass(frozen=True)
class Change:
    """What a program defines otherwise than its baseline, by top-level name.

    `whole` has the definitions with all locals renamed, `added` the lines that the baseline's definitions lack, with
    new locals renamed, and `removed` those that only the baseline's have.
    """

    whole: Lines
    added: Lines
    removed: Lines

    @classmethod
    def of(cls, baseline: str, program: str, names: Collection[str]) -> "Change":
        """The change of these names. Raises the errors of `ast.parse`, and RecursionError."""
        kept = set[str]().union(*(_bound_in(node) for _, node in _binding(baseline, names)))
        before = definitions(_renamed(baseline, names, kept), baseline)
        after = definitions(_renamed(program, names, kept), program)
        return cls(definitions(_renamed(program, names), program), _without(after, before), _without(before, after))


def similarity(one: Change, other: Change) -> float:
    """From 0 to 1: 1 for equal definitions, else the share of the added lines that both changes have.

    Where both only remove lines, it is the share of the removed ones. Numbers that are near each other are the same.
    """
    if one.whole == other.whole:
        return 1.0
    if not any(one.added.values()) and not any(other.added.values()):
        return _share(one.removed, other.removed)
    return _share(one.added, other.added)


def _share(one: Lines, other: Lines) -> float:
    """The Dice coefficient of two bags of lines: 2 · common / total; 0 if both are empty."""
    mine, theirs = list(_informative(one)), list(_informative(other))
    total, common = len(mine) + len(theirs), 0
    for name, text, numbers in mine:
        for candidate in theirs:
            if candidate[:2] == (name, text) and all(map(near, numbers, candidate[2])):
                theirs.remove(candidate)
                common += 1
                break
    return 2 * common / total if total else 0.0


def _informative(lines: Lines) -> Iterator[tuple[str, str, list[float]]]:
    """Each line that says what the change is: its top-level name, its text without the numbers, and the numbers."""
    for name, texts in lines.items():
        for text in texts:
            if not _SCAFFOLD.match(text):
                yield name, _NUMBER.sub("#", text), [float(number) for number in _NUMBER.findall(text)]


def near(one: float, other: float) -> bool:
    """Whether two numbers are near. Those between 0.5 and 1, such as momenta, by their distance to 1."""
    if 0.5 < one < 1 and 0.5 < other < 1:
        one, other = 1 - one, 1 - other
    low, high = sorted((one, other))
    return high <= low * (1 + TOLERANCE) + 1e-9


def _without(lines: Lines, other: Lines) -> Lines:
    """The lines that `other` lacks under the same name."""
    return {name: [line for line in lines[name] if line not in other.get(name, [])] for name in lines}


# -- names of locals --


def _renamed(source: str, names: Collection[str], kept: Collection[str] = ()) -> Iterator[Statement]:
    """The statements of a program that bind some of `names`, with locals called `_0`, `_1`, … as they appear.

    Locals that are in `kept` keep their names.
    """
    for bound, node in _binding(source, names):
        yield bound, _Renamer(kept).visit(deepcopy(node))


def _binding(source: str, names: Collection[str]) -> list[Statement]:
    return [(bound & set(names), node) for bound, node in _statements(source) if bound & set(names)]


@lru_cache(maxsize=8)
def _statements(source: str) -> list[tuple[set[str], ast.stmt]]:
    """Shared: whoever changes a node copies it."""
    return [(set(names), node) for names, node in statements_of(source)]


def _bound_in(node: ast.AST) -> set[str]:
    """The names that parameters and statements below a node bind. Names that are declared global are not among them."""
    bound, outside = set[str](), set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            bound.add(part.id)
        elif isinstance(part, ast.arg):
            bound.add(part.arg)
        elif isinstance(part, _NAMED) and part is not node and part.name:
            bound.add(part.name)
        elif isinstance(part, ast.Global):
            outside.update(part.names)
    return bound - outside


class _Renamer(ast.NodeTransformer):
    """Renames the locals of each outermost function, in one scope for it and all that is inside; drops annotations."""

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = kept
        self._local: set[str] | None = None  # those of the function that is being visited
        self._given: dict[str, str] = {}

    def _name(self, name: str) -> str:
        if self._local is None or name not in self._local:
            return name
        return self._given.setdefault(name, f"_{len(self._given)}")

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        outermost = self._local is None
        if not isinstance(node, ast.Lambda):
            node.name, node.returns = self._name(node.name), None
        if outermost:
            self._local, self._given = _bound_in(node) - set(self._kept), {}
        self.generic_visit(node)
        if outermost:
            self._local = None
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._name(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = self._name(node.arg), None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if self._local is None or node.value is None:  # in a class it may declare a field
            return node
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            node.name = self._name(node.name)
        return super().generic_visit(node)
