"""The splice: an overlay applied to the baseline, on text, so that comments and formatting of both survive."""

import ast
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from itertools import chain

from pytest_autoresearch.programs.statements import Names, Piece, found, parse, pieces_of, unix

SPOKEN = frozenset({"TRACK", "GOAL", "SEARCH_SPACE", "CONSTRAINTS"})
"""Names that speak to the plugin: never spliced."""

_OWN_COMMENT = re.compile(r"^(?:#(?!!)[^\n]*\n)*\Z", re.MULTILINE)  # the comment lines directly above a statement
_POSTPONED = re.compile(r"^from __future__ import [^\n#]*\bannotations\b", re.MULTILINE)


def is_overlay_line(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module, node.level, node.names[0].name) == ("baseline", 0, "*")


def splice(baseline: str, overlay: str) -> str:
    """The baseline with the overlay applied: a complete, readable program that ends with one newline.

    Each statement of the overlay goes after the last statement of the baseline that binds one of its names, and takes
    its place where nothing reads the old value. New names go before the next such statement; new imports go to the
    imports. An overlay that changes nothing leaves every byte as it is. SyntaxError where either does not parse.
    """
    postponed = any(_POSTPONED.search(unix(source)) for source in (baseline, overlay))
    base = pieces_of(baseline, postponed)
    changes, pinned = _imports_placed(base, _changes(pieces_of(overlay, postponed)))
    if not changes:
        return baseline
    places, needs = _places(base, changes, pinned)
    program = _assembled(base, changes, places, _heirs(base, changes, places, needs, pinned))
    parse(program)
    return program


def _changes(overlay: list[Piece]) -> list[Piece]:
    """The statements of an overlay that go into the program."""
    changes: list[Piece] = []
    spliced = False
    for piece in overlay:
        if piece.string is not None and spliced:  # the docstring of the constant above it
            changes[-1] = replace(changes[-1], rest=changes[-1].rest + piece.lead + piece.code + piece.rest)
        elif not piece.code:
            if spliced and piece.lead.strip():
                changes[-1] = replace(changes[-1], rest=changes[-1].rest + piece.lead.rstrip("\n") + "\n")
        else:
            spoken = bool(piece.names.writes) and piece.names.writes <= SPOKEN
            spliced = not (piece.string is not None or spoken or is_overlay_line(piece.node))
            if spliced:
                changes.append(piece)
    return changes


def _last_bound(base: list[Piece]) -> dict[str, int]:
    return {name: index for index, piece in enumerate(base) for name in piece.names.binds}


def _imports_placed(base: list[Piece], changes: list[Piece]) -> tuple[list[Piece], dict[int, int]]:
    """Leave out the imports that the baseline has, and say after which statement of the baseline each new one goes."""
    last = _last_bound(base)
    has: dict[str, tuple[str | None, str] | None] = {}
    for piece in base:
        has |= piece.imports() or dict.fromkeys(piece.names.binds)
    future_place = import_place = 0 if base[0].string is not None else -1
    for index, piece in enumerate(base):
        if piece.is_import:
            import_place = index
            future_place = index if _is_future(piece) else future_place
        elif piece.names.binds and not piece.is_guarded_import:
            break  # an import further down may rely on what is bound here

    bound_otherwise = {name for piece in changes if not piece.is_import for name in piece.names.binds}
    kept: list[Piece] = []
    pinned: dict[int, int] = {}
    for piece in changes:
        new = {name: origin for name, origin in piece.imports().items() if has.get(name) != origin}
        if piece.is_import and not new:
            continue
        if _is_future(piece):
            pinned[len(kept)] = future_place
            if len(new) < len(piece.imports()):
                piece = replace(piece, code=f"from __future__ import {', '.join(new)}")
        elif piece.is_import:
            names = {name.partition(".")[0]: name for name in new}
            # `import torch.fx` beside `import torch` adds to one package: it replaces nothing.
            replaces = (
                first in last and (new[name] != (None, name) or first not in base[last[first]].packages())
                for first, name in names.items()
            )
            if not any(replaces) and not names.keys() & bound_otherwise:
                pinned[len(kept)] = import_place
        kept.append(piece)
    return kept, pinned


def _is_future(piece: Piece) -> bool:
    return isinstance(piece.node, ast.ImportFrom) and piece.node.module == "__future__"


def _needed(names: Names, bound_by: Mapping[str, Iterable[Names]]) -> set[str]:
    """The names whose values running a statement takes: those it reads, and those that functions it may call read."""
    needed, todo, seen = set(names.reads), set(names.runs), set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        for other in bound_by.get(name, ()):
            needed |= other.later
            # `g = f` makes g() run f; `X = f()` makes nothing run again.
            todo |= (other.later | other.reads - other.runs) - seen
    return needed


def _bound_by(pieces: Iterable[Piece]) -> dict[str, list[Names]]:
    table: dict[str, list[Names]] = {}
    for piece in pieces:
        for name in piece.names.binds:
            table.setdefault(name, []).append(piece.names)
    return table


def _places(base: list[Piece], changes: list[Piece], pinned: Mapping[int, int]) -> tuple[list[int], list[set[str]]]:
    """For each change, the statement of the baseline after which it goes, and the names whose values it needs.

    First every change as early as it can run (for an override that is its place), then each new name as late as its
    readers allow, up to the next override.
    """
    last = _last_bound(base)
    bound_by = _bound_by(base)
    everything = _bound_by(chain(base, changes))
    needs: list[set[str]] = []
    places: list[int] = []

    def in_order(first: int, second: int) -> bool:
        """Whether the second change has to stay behind the first, which is above it in the overlay."""
        one, two = changes[first].names, changes[second].names
        shared = one.writes & (needs[second] | two.writes) or needs[first] & two.writes
        return bool(shared) or (one.acts and two.acts)

    bound_above: set[str] = set()
    for index, change in enumerate(changes):
        needs.append(_needed(change.names, bound_by))
        behind = [last[name] for name in change.names.binds | (needs[index] - bound_above) if name in last]
        behind += [places[other] for other in range(index) if in_order(other, index)]
        places.append(pinned.get(index, max(behind, default=-1)))
        bound_above |= change.names.binds
        bound_by |= {name: [change.names] for name in change.names.binds}

    next_override = len(base) - 1
    for index in range(len(changes) - 1, -1, -1):
        names = changes[index].names
        if index in pinned:
            continue
        if names.binds & last.keys():
            next_override = places[index]
            continue
        before = [next_override, *(places[other] for other in range(index + 1, len(changes)) if in_order(index, other))]
        before += [n - 1 for n, piece in enumerate(base) if names.binds & _needed(piece.names, everything)][:1]
        places[index] = max(places[index], min(before))
    return places, needs


def _heirs(
    base: list[Piece], changes: list[Piece], places: list[int], needs: list[set[str]], pinned: Container[int]
) -> dict[int, int]:
    """Each statement of the baseline that is dropped → the change that takes its place."""
    last = _last_bound(base)
    everything = _bound_by(chain(base, changes))
    heir: dict[str, int] = {}
    old: set[str] = set()  # names whose value in the baseline the overlay takes
    for index, change in enumerate(changes):
        old |= needs[index] - heir.keys()
        heir |= {name: index for name in change.names.binds if name not in heir and index not in pinned}
    heirs = {}
    for index, piece in enumerate(base):
        names = piece.names.binds
        if not names or not names <= heir.keys() - old or piece.names.acts or any(last[n] != index for n in names):
            continue
        until = max(places[heir[name]] for name in names)
        if not any(names & _needed(other.names, everything) for other in base[index + 1 : until + 1]):
            heirs[index] = min(heir[name] for name in names)
    return heirs


def _assembled(base: list[Piece], changes: list[Piece], places: list[int], heirs: Mapping[int, int]) -> str:
    """The program's text. Between statements that are the baseline's, or took the place of one, its spacing stays."""
    blocks: list[Piece] = []
    settled: list[bool] = []

    def put(piece: Piece, lead: str, is_settled: bool) -> None:
        blocks.append(replace(piece, lead=lead))
        settled.append(is_settled)

    base, changes = list(base), [replace(change, lead=change.lead.lstrip(" \t\f\n")) for change in changes]
    for index, heir in heirs.items():
        changes[heir] = _inheriting(base[index], changes[heir], base[index + 1].lead)
    apart = ""  # the blank lines, and comments at a distance, above a statement that is gone
    for index in range(-1, len(base)):
        here = [number for number, place in enumerate(places) if place == index]
        if index in heirs:
            apart = _merged(apart, _split(base[index].lead)[0])
        elif index >= 0 and (base[index].code or base[index].lead.strip()):
            put(base[index], _merged(apart, base[index].lead), True)
            apart = ""
        elif index < 0 and here:  # what heads the file stays on top
            apart, own = _split(base[0].lead)
            base[0] = replace(base[0], lead=own)
        for number in here:
            alike = heirs.get(index) == number and changes[number].is_definition == base[index].is_definition
            put(changes[number], apart + changes[number].lead, alike)
            apart = ""

    text = ""
    for index, block in enumerate(blocks):
        if index and not (settled[index - 1] and settled[index]):
            text += "\n" * (_gap(blocks[index - 1], block) - _blank_lines(block.lead))
        text += block.lead + block.code + block.rest
    return text.rstrip() + "\n"


def _inheriting(old: Piece, new: Piece, below: str) -> Piece:
    """The new statement with the comments of the one that it replaces: they say what the name is.

    Comments of the new one that are there already (its overlay was promoted) are not written twice.
    """
    above = "" if old.lead.endswith(new.lead) else new.lead
    same_line, _, further = new.rest.partition("\n")
    if further.strip() and below.lstrip().startswith(further.strip()):
        further = ""
    speaks = "#" in same_line or further.lstrip("\n")[:1].isspace()  # an indented comment goes on with the line's
    carried = old.rest.lstrip(" \t\f;\\").rstrip()
    if "#" in carried and "\n" not in old.code + new.code and not speaks:
        same_line = carried if carried.startswith("\n") else f"  {carried}"
    return replace(new, lead=_split(old.lead)[1] + above, rest=f"{same_line}\n{further}")


def _split(lead: str) -> tuple[str, str]:
    """What stands apart from a statement, and the comment lines directly above it."""
    own = found(_OWN_COMMENT.search(lead))
    return lead[: own.start()], own[0]


def _blank_lines(lead: str) -> int:
    return lead[: len(lead) - len(lead.lstrip())].count("\n")


def _merged(apart: str, lead: str) -> str:
    """Two gaps become one."""
    if apart.strip():
        return apart + lead
    return "\n" * (_blank_lines(apart) - _blank_lines(lead)) + lead


def _gap(above: Piece, below: Piece) -> int:
    """How many blank lines belong between two statements, of which at least one is new here."""
    if above.is_definition or below.is_definition:
        return 2
    return int(above.string is not None or above.is_import != below.is_import)


def unreachable_overrides(program: str, overlay: str) -> list[str]:
    """The names that an overlay binds, where `train` can reach none of them: a typo, most likely. Else nothing.

    Reaching is by name, from `train` and from each top-level statement that does something besides binding.
    """
    changes = _changes(pieces_of(overlay))
    if any(change.names.acts for change in changes):
        return []
    pieces = pieces_of(program)
    bound_by = _bound_by(pieces)
    reached: set[str] = set()
    todo = {"train"}.union(*(piece.names.reads | piece.names.later for piece in pieces if piece.names.acts))
    while todo:
        reached |= todo
        todo = {name for n in todo for names in bound_by.get(n, ()) for name in names.reads | names.later} - reached
    bound = sorted({name for change in changes for name in change.names.binds})
    return [] if reached.intersection(bound) else bound


def unmatched_names(baseline: str, overlay: str) -> list[str]:
    """The names that an overlay binds, where the baseline knows not one of them: made for another one. Else nothing."""
    changes = [change for change in _changes(pieces_of(overlay)) if not change.is_import]
    bound = sorted({name for change in changes for name in change.names.binds})
    if any(change.names.acts or _may_act(change.node) for change in changes):
        return []
    known = (piece.names.binds | piece.names.reads | piece.names.later for piece in pieces_of(baseline))
    return [] if any(names.intersection(bound) for names in known) else bound


def _may_act(node: ast.AST) -> bool:
    """Whether a binding may do something besides: `_ = setattr(…)`, a decorator."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return bool(node.decorator_list)
    return any(isinstance(part, ast.Call) for part in ast.walk(node))
