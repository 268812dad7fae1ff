"""The lines that promotions have added to a baseline, and those that an overlay would remove again."""

import ast
from collections.abc import Collection, Iterable, Mapping, Sequence

from pytest_autoresearch.programs.compare import without_docstrings
from pytest_autoresearch.programs.splice import changes_of, needs_of, old_values
from pytest_autoresearch.programs.statements import Names, unix


def changed_lines(old: str, new: str) -> dict[str, list[str]]:
    """For each top-level name, the lines that its definition has in the new program but not in the old one.

    Lines have no indentation, comments or docstrings, and the layout of `ast.unparse`. Names without new lines are left
    out. Raises the errors of `ast.parse`.
    """
    before, after = _definitions(old), _definitions(new)
    changed = {name: [line for line in lines if line not in before.get(name, [])] for name, lines in after.items()}
    return {name: lines for name, lines in changed.items() if lines}


def changed_names(old: str, new: str) -> list[str]:
    """The top-level names whose definitions differ between two programs, in order. Raises the errors of `ast.parse`."""
    before, after = _definitions(old), _definitions(new)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def lost_lines(overlay: str, promoted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each name that the overlay replaces, the lines of `promoted` that the new definition lacks.

    `promoted` has the form of `changed_lines`. A definition that uses the old value, as `class Attention(Attention)`
    does, replaces nothing. Names that lose nothing are left out. Raises the errors of `parse`.
    """
    changes = changes_of(overlay)
    kept = old_values(changes, needs_of([], changes))
    lost = {
        name: [line for line in promoted[name] if line not in lines]
        for name, lines in _definitions(overlay).items()
        if name in promoted and name not in kept
    }
    return {name: lines for name, lines in lost.items() if lines}


def definitions(statements: Iterable[tuple[Collection[str], ast.stmt]], source: str) -> dict[str, list[str]]:
    """For each top-level name, the lines of the statements that bind it. Each comes with the names that it binds."""
    found: dict[str, list[str]] = {}
    for names, node in statements:
        lines = _lines(node, source) if names else []
        for name in names:
            found.setdefault(name, []).extend(lines)
    return {name: list(dict.fromkeys(lines)) for name, lines in found.items()}


def statements_of(source: str) -> list[tuple[Collection[str], ast.stmt]]:
    """The top-level statements of a program, without docstrings, and the names that each binds."""
    found: list[tuple[Collection[str], ast.stmt]] = []
    for node in without_docstrings(source).body:
        names = Names()
        names.visit(node)
        found.append((names.binds, node))
    return found


def _definitions(source: str) -> dict[str, list[str]]:
    return definitions(statements_of(source), source)


def _lines(node: ast.stmt, source: str) -> list[str]:
    try:
        lines = ast.unparse(node).splitlines()
    except (RecursionError, ValueError):  # nested too deeply, or a very long number: take the text as it is written
        lines = unix(source).split("\n")[node.lineno - 1 : node.end_lineno]
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
