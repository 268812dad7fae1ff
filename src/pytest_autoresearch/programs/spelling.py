"""Find names that are probably misspelt, and suggest similar ones."""

import ast
import difflib
from collections.abc import Iterable

from pytest_autoresearch.programs.splice import changes_of
from pytest_autoresearch.programs.statements import Names, Piece, pieces_of

COMPOUND = ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match
WRAPPERS = frozenset(
    {"no_grad", "inference_mode", "enable_grad", "autocast", "compile", "script", "dataclass", "contextmanager"}
    | {"cache", "lru_cache", "wraps", "total_ordering", "staticmethod"}
)
"""Decorators of torch and the standard library that only change what is below them. Others may register it."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that resemble this one, most similar first. Case is ignored."""
    spelled: dict[str, list[str]] = {}
    for other in known:
        spelled.setdefault(other.lower(), []).append(other)
    return [other for close in difflib.get_close_matches(name.lower(), spelled) for other in spelled[close]][:3]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean `a` or `b`?`` with the nearest names; "" if none resembles this one."""
    similar = " or ".join(f"`{other}`" for other in nearest(name, known))
    return f"did you mean {similar}?" if similar else ""


def unknown_names(baseline: str, overlay: str) -> dict[str, int]:
    """New names of an overlay that nothing uses, and the line of each. New: the baseline neither binds nor mentions it.

    A name is used if it is mentioned by a statement that acts, or that binds a name of the baseline or another used
    name. A name that is bound by a statement which may act also counts as used, unless it is assigned or defined inside
    a loop, a `with` or a `try`. Raises the errors of `parse`.
    """
    known = {"train"}.union(*(piece.names.binds | piece.names.mentions for piece in pieces_of(baseline)))
    new: dict[str, int] = {}
    mentioned_by: dict[str, set[str]] = {}
    used = set[str]()
    for piece in changes_of(overlay):
        names, inside = piece.names, _assigned_inside(piece.node)
        if _may_act(piece):
            used |= names.binds - inside.keys()
        idle = {name for name in names.binds if name.startswith("_")} if len(names.binds) > 1 else set()  # `a, _ = f()`
        for name in names.binds - known - idle:
            new.setdefault(name, inside.get(name, piece.node.lineno))
            mentioned_by[name] = mentioned_by.get(name, set()) | names.mentions
        if names.binds & known or _may_act(piece):
            used |= names.mentions
    todo = used & new.keys()
    while todo:
        found = set[str]().union(*(mentioned_by[name] for name in todo)) & new.keys()
        todo = found - used
        used |= todo
    return {name: line for name, line in new.items() if name not in used}


def _may_act(piece: Piece) -> bool:
    """Whether a statement may act, that is, do more than bind a name: `_ = setattr(…)`, a decorator, a loop."""
    if piece.names.acts or piece.is_import or _is_registered(piece.node):
        return True
    if isinstance(piece.node, ast.Assign | ast.AnnAssign) and all(name.startswith("_") for name in piece.names.binds):
        return any(isinstance(node, ast.Call) for node in ast.walk(piece.node))
    return isinstance(piece.node, COMPOUND)


def _is_registered(node: ast.stmt) -> bool:
    """Whether a decorator may do more than change the function or class below it."""
    decorators = [part.func if isinstance(part, ast.Call) else part for part in getattr(node, "decorator_list", [])]
    return any(getattr(part, "attr", getattr(part, "id", "")) not in WRAPPERS for part in decorators)


def _assigned_inside(node: ast.stmt) -> dict[str, int]:
    """The names that assignments and definitions inside a compound statement bind, and the line of each.

    Names such as `_x`, and names that the statement also imports, are not among them.
    """
    found: dict[str, int] = {}
    imported = set[str]()
    todo: list[ast.AST] = [node] if isinstance(node, COMPOUND) else []
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            if isinstance(child, ast.stmt) and not isinstance(child, COMPOUND | ast.If):
                names = Names()
                names.visit(child)
                if isinstance(child, ast.Import | ast.ImportFrom):
                    imported |= names.binds
                elif not (names.acts or _is_registered(child)):
                    found = dict.fromkeys(names.binds, child.lineno) | found
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                todo.append(child)
    return {name: line for name, line in found.items() if name not in imported and not name.startswith("_")}
