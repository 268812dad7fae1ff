"""Fold a program: the same program with fewer layers. Promotions leave layers, such as `class Attention(Attention)`.

1. A class and its only subclass of the same name become one class. Methods of the subclass replace those of the class.
   Where a method calls its predecessor by `super()`, the predecessor's code takes the place of the call.
2. What nothing uses any more goes: see `unused`.

Both are done to the text, so comments and layout stay where code stays. What is not plainly safe is left as it is. The
folded program does the same, draws the same random numbers in the same order, and has the same score to the last digit.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pytest_autoresearch.programs.merge import merge
from pytest_autoresearch.programs.size import compare_sizes
from pytest_autoresearch.programs.statements import Names, Piece, parse, pieces_of, unix
from pytest_autoresearch.programs.unused import Uses, hides_uses, without_unused


def fold(source: str) -> str:
    """A program that does exactly the same with fewer layers; the source itself if there is nothing to fold.

    Every step is valid Python and simpler by `compare_sizes`. Raises the errors of `parse`.
    """
    folded = source
    while True:
        for simpler in _steps(folded):
            if simpler != folded and _is_valid(simpler) and compare_sizes(simpler, folded)[0]:
                folded = simpler
                break
        else:
            return folded


def _is_valid(program: str) -> bool:
    """Whether a step is valid Python: `super().f(x)if y else z` becomes `xif y else z`."""
    try:
        parse(program)
    except SyntaxError:
        return False
    return True


def _steps(source: str) -> Iterator[str]:
    """The programs that are one step simpler."""
    if hides_uses(source):
        return
    yield without_unused(source)
    pieces = pieces_of(source)
    plain = Uses(pieces, set()).plain_classes
    for index, piece in enumerate(pieces):
        earlier = _predecessor(pieces, index, plain)
        if earlier is not None and (merged := merge(pieces[earlier], piece, unix(source))):
            parts = [*pieces[:earlier], *_placed(pieces[earlier : index + 1], merged), *pieces[index + 1 :]]
            yield "".join(part.lead + part.code + part.rest for part in parts)


# -- which classes --


def _predecessor(pieces: Sequence[Piece], index: int, plain: set[str]) -> int | None:
    """The index of the class that `class A(A)` continues, if A is used for nothing else before it."""
    match pieces[index].node:
        case ast.ClassDef(name=name, bases=[ast.Name(id=base)], keywords=[], decorator_list=[]) if name == base:
            pass
        case _:
            return None
    between: list[Piece] = []
    for earlier in range(index - 1, -1, -1):
        piece = pieces[earlier]
        if name in piece.names.binds:
            node = piece.node
            is_class = isinstance(node, ast.ClassDef) and len(node.bases) <= 1 and name in plain
            # It moves down to the subclass, so what it reads at once must still be what it was.
            return earlier if is_class and not any(_disturbs(other, name, piece.names) for other in between) else None
        between.append(piece)
    return None


def _disturbs(between: Piece, name: str, moved: Names) -> bool:
    """Whether a statement may use class `name`, run code, or bind what the class reads."""
    plain = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom
    names = between.names
    return (
        not isinstance(between.node, plain)
        or names.acts
        or bool(names.runs)
        or name in names.mentions
        or not names.writes.isdisjoint(moved.reads)
    )


def _placed(pieces: Sequence[Piece], merged: str) -> list[Piece]:
    """The statements from the class to its subclass, with one class in place of the two, where the subclass was."""
    earlier, *between, later = pieces
    comments = [line for line in later.lead.splitlines(keepends=True) if line.strip()]
    lead = earlier.lead + "".join(comments)
    if between:
        own = [line for line in earlier.lead.splitlines(keepends=True) if line.strip()]
        lead = later.lead[: len(later.lead) - len(later.lead.lstrip("\n"))] + "".join([*own, *comments])
    return [*between, replace(later, lead=lead, code=merged, rest="")]
