"""Find names that are probably misspelt, and suggest similar ones."""

import ast
import difflib
from collections.abc import Iterable

from pytest_autoresearch.programs.splice import changes_of
from pytest_autoresearch.programs.statements import Piece, pieces_of


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that resemble this one, most similar first. Case is ignored."""
    spelled: dict[str, list[str]] = {}
    for other in known:
        spelled.setdefault(other.lower(), []).append(other)
    return [other for close in difflib.get_close_matches(name.lower(), spelled) for other in spelled[close]][:3]


def unknown_names(baseline: str, overlay: str) -> dict[str, int]:
    """New names of an overlay that nothing uses, and the line of each. New: the baseline neither binds nor mentions it.

    A name is used if it is mentioned by a statement that acts, or that binds a name of the baseline or another used
    name. A name that is bound by a statement which may act also counts as used. Raises the errors of `parse`.
    """
    known = {"train"}.union(*(piece.names.binds | piece.names.mentions for piece in pieces_of(baseline)))
    new: dict[str, int] = {}
    mentioned_by: dict[str, set[str]] = {}
    used = set[str]()
    for piece in changes_of(overlay):
        names = piece.names
        if _may_act(piece):
            used |= names.binds
        idle = {name for name in names.binds if name.startswith("_")} if len(names.binds) > 1 else set()  # `a, _ = f()`
        for name in names.binds - known - idle:
            new.setdefault(name, piece.node.lineno)
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
    if piece.names.acts or piece.is_import or getattr(piece.node, "decorator_list", []):
        return True
    if isinstance(piece.node, ast.Assign | ast.AnnAssign) and all(name.startswith("_") for name in piece.names.binds):
        return any(isinstance(node, ast.Call) for node in ast.walk(piece.node))
    return isinstance(piece.node, ast.For | ast.While | ast.With | ast.Try | ast.TryStar | ast.Match)
