"""The splice: an overlay applied to the baseline, as text, so that comments and layout of both survive. The rule:

1. The docstring, `from baseline import *`, TRACK, GOAL, SEARCH_SPACE, CONSTRAINTS, VARY, imports that the baseline
   has, and comments at the end are left out.
2. A new import goes below the imports of the baseline.
3. A statement that binds a name of the baseline goes below the last statement there that binds the name. It replaces
   that statement, and takes over its comments, unless the overlay needs the old value.
4. Any other statement goes above the first statement that mentions a name it binds; if there is none, to the end.
5. A statement goes further down if it needs at once a value that is bound further down. Two statements of the overlay
   keep their order if both do more than bind names, or if one writes what the other one needs or writes.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_autoresearch.programs.statements import Names, Piece, parse, pieces_of

SEARCH_DIRECTIVES = frozenset({"SEARCH_SPACE", "CONSTRAINTS", "VARY"})  # of a sweep
DIRECTIVES = frozenset({"TRACK", "GOAL"}) | SEARCH_DIRECTIVES
"""Names that an experiment sets for the plugin. They never become part of a program."""


def splice(baseline: str, overlay: str) -> str:
    """The baseline with the overlay applied: a complete program that ends with one newline.

    If the overlay changes nothing, this is the baseline, byte for byte. Raises the errors of `parse`.
    """
    postponed = _postpones_annotations(baseline) or _postpones_annotations(overlay)
    base = pieces_of(baseline, postponed)
    imported: dict[str, object] = {}
    for piece in base:
        imported |= piece.imports() or dict.fromkeys(piece.names.binds)
    pieces = changes_of(overlay, postponed)
    pieces = [piece for piece in pieces if not piece.is_import or piece.imports().items() - imported.items()]
    if not pieces:
        return baseline
    changes = [_Change(piece, needs) for piece, needs in zip(pieces, needs_of(base, pieces), strict=True)]
    _place(base, changes)
    program = _joined(base, changes)
    parse(program)
    return program


def is_overlay_line(node: ast.AST) -> bool:
    """Whether a statement is `from baseline import *`."""
    return isinstance(node, ast.ImportFrom) and (node.module, node.level, node.names[0].name) == ("baseline", 0, "*")


def changes_of(overlay: str, postponed: bool = False) -> list[Piece]:
    """The statements of an overlay that may go into the program."""
    return [
        piece
        for piece in pieces_of(overlay, postponed)
        if piece.code
        and piece.docstring is None
        and not is_overlay_line(piece.node)
        and not (piece.names.writes and piece.names.writes <= DIRECTIVES)
    ]


def _is_future(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _postpones_annotations(source: str) -> bool:
    return any(_is_future(piece.node) and "annotations" in piece.names.binds for piece in pieces_of(source))


# -- which values a statement needs --


def needs_of(base: Iterable[Piece], changes: Iterable[Piece]) -> list[set[str]]:
    """For each change, the names that it reads when it runs, itself or through functions that it may call."""
    calls = _Calls()
    for piece in base:
        for name in piece.names.binds:
            calls.bind(name, [*calls.bound_by[name], piece.names])
    needs = []
    for change in changes:
        names = change.names
        needs.append((names.reads | names.may_bind).union(*(calls.reached(name)[0] for name in names.runs)))
        for name in names.binds:
            calls.bind(name, [names])
    return needs


class _Calls:
    """What calls of the names that are bound so far may read. Answers are kept until a name in one is bound anew."""

    def __init__(self) -> None:
        self.bound_by: dict[str, list[Names]] = defaultdict(list)
        self._known: dict[str, tuple[set[str], set[str]]] = {}
        self._seen = set[str]()  # in any answer

    def bind(self, name: str, by: list[Names]) -> None:
        self.bound_by[name] = by
        if name in self._seen:
            self._known.clear()
            self._seen.clear()

    def reached(self, start: str) -> tuple[set[str], set[str]]:
        """The names that a call of `start` may read, and the names whose values it may run."""
        if start in self._known:
            return self._known[start]
        needed, todo, seen = set[str](), {start}, set[str]()
        while todo:
            name = todo.pop()
            seen.add(name)
            if name in self._known:
                more, ran = self._known[name]
                needed |= more
                seen |= ran
                todo -= ran
                continue
            for other in self.bound_by.get(name, ()):
                needed |= other.later
                # After `g = f`, a call of g runs f. After `X = f()`, reading X runs nothing.
                todo |= (other.later | other.reads - other.runs) - seen
        self._known[start] = needed, seen
        self._seen |= seen
        return needed, seen


def old_values(changes: Iterable[Piece], needs: Iterable[set[str]]) -> set[str]:
    """The names that the changes need before they bind them, so that the value is the baseline's."""
    old, bound = set[str](), set[str]()
    for change, needed in zip(changes, needs, strict=True):
        old |= needed - bound
        bound |= change.names.binds
    return old


# -- where a statement goes --


@dataclass
class _Change:
    """A statement of the overlay. It goes below the statement of the baseline whose index is `place`."""

    piece: Piece
    needs: set[str]
    place: int = -1
    is_movable: bool = False  # may go further down, to the first statement that mentions its names


class _Order:
    """The places that a statement must stay below (`last_first`) or above to keep its order with others.

    There is one set of names for each place, because an overlay may have thousands of statements and names, and set
    operations are faster than going name by name.
    """

    def __init__(self, last_first: bool) -> None:
        self._last_first = last_first
        self._needed: dict[int, set[str]] = defaultdict(set)
        self._written: dict[int, set[str]] = defaultdict(set)
        self._acting = set[int]()

    def add(self, names: Names, needs: Iterable[str], place: int) -> None:
        self._needed[place].update(needs)
        self._written[place].update(names.writes)
        self._acting |= {place} if names.acts else set()

    def limit(self, names: Names, needs: set[str], default: int) -> int:
        """The place that binds: the last one, or the first one, of those that count."""
        for place in sorted(self._needed, reverse=self._last_first):
            written = self._written[place]
            if (
                (names.acts and place in self._acting)
                or not self._needed[place].isdisjoint(names.writes)
                or not (written.isdisjoint(names.writes) and written.isdisjoint(needs))
            ):
                return place
        return default


def _place(base: Sequence[Piece], changes: Sequence[_Change]) -> None:
    """Place each change as high as it can run. Then move changes of new names down, to where they are first needed."""
    order = _Order(last_first=True)
    known = set[str]()
    for index, piece in enumerate(base):
        order.add(Names(binds=piece.names.binds), (), index)
        known |= piece.names.binds
    for change in changes:
        names = change.piece.names
        if _is_future(change.piece.node):
            change.place = _top(base)
        elif change.piece.is_import and not names.binds & known:
            change.place = _end_of_imports(base)
        else:
            change.place = order.limit(names, change.needs, default=-1)
            change.is_movable = not names.binds & known
        order.add(names, change.needs, change.place)

    first = _first_mentions(base, changes)
    order = _Order(last_first=False)
    for change in reversed(changes):
        names = change.piece.names
        if change.is_movable:
            above = min((first[name] for name in names.binds & first.keys()), default=len(base) - 1)
            change.place = max(change.place, min(above, order.limit(names, change.needs, default=len(base) - 1)))
        order.add(names, change.needs, change.place)


def _top(base: Sequence[Piece]) -> int:
    return 0 if base[0].docstring is not None else -1


def _end_of_imports(base: Sequence[Piece]) -> int:
    place = _top(base)
    for index, piece in enumerate(base):
        if piece.is_import:
            place = index
        elif piece.names.binds and not isinstance(piece.node, ast.If | ast.Try):
            break  # an import further down may rely on what is bound here
    return place


def _first_mentions(base: Sequence[Piece], changes: Iterable[_Change]) -> dict[str, int]:
    """For each name that movable changes bind, the first place that mentions it, directly or through such names."""
    mentions = [(index - 1, piece.names.mentions) for index, piece in enumerate(base)]
    mentioned_by: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        if change.is_movable:
            for name in change.piece.names.binds:
                mentioned_by[name] |= change.piece.names.mentions
        else:
            mentions.append((change.place, change.piece.names.mentions))
    first: dict[str, int] = {}
    for place, names in sorted(mentions, key=lambda mention: mention[0]):
        while names := {name for name in names if name in mentioned_by and name not in first}:
            first |= dict.fromkeys(names, place)
            names = set[str]().union(*(mentioned_by[name] for name in names))
    return first


# -- the text --


def _replacements(base: Sequence[Piece], changes: Sequence[_Change]) -> dict[int, _Change]:
    """The index of each statement of the baseline that is dropped → the change that takes its place."""
    old = old_values([change.piece for change in changes], [change.needs for change in changes])
    bound: dict[int, set[str]] = defaultdict(set)
    replacements: dict[int, _Change] = {}
    for change in changes:
        bound[change.place] |= change.piece.names.binds
        if change.piece.names.binds & base[change.place].names.binds:
            replacements.setdefault(change.place, change)
    for index in list(replacements):
        if base[index].names.acts or not base[index].names.binds <= bound[index] - old:
            del replacements[index]
    return replacements


def _joined(base: Sequence[Piece], changes: Sequence[_Change]) -> str:
    """The text of the program. The baseline keeps its spacing; new statements get at least the usual blank lines."""
    below: dict[int, list[_Change]] = defaultdict(list)
    for change in changes:
        below[change.place].append(change)
    text = base[0].lead if below[-1] else ""  # the comments at the top of the file stay there
    base = [replace(base[0], lead="" if text else base[0].lead), *base[1:]]
    replacements = _replacements(base, changes)

    blocks: list[Piece] = []
    keeps_spacing: list[bool] = []
    for index in range(-1, len(base)):
        if index >= 0 and index not in replacements and (base[index].code or base[index].lead.strip()):
            blocks.append(base[index])
            keeps_spacing.append(True)
        for change in below[index]:
            piece = replace(change.piece, lead=change.piece.lead.lstrip(" \t\f\n"))
            is_replacement = change is replacements.get(index)
            blocks.append(_inheriting(base[index], piece) if is_replacement else piece)
            keeps_spacing.append(is_replacement and piece.is_definition == base[index].is_definition)
    for number, piece in enumerate(blocks):
        if number and not (keeps_spacing[number - 1] and keeps_spacing[number]):
            text += "\n" * (_gap(blocks[number - 1], piece) - _blank_lines(piece.lead))
        text += piece.lead + piece.code + piece.rest
    return text.rstrip() + "\n"


def _inheriting(old: Piece, new: Piece) -> Piece:
    """The new statement with the comments of the statement that it replaces: they explain the name."""
    lead = old.lead if old.lead.endswith(new.lead) else old.lead + new.lead
    has_comment = new.rest.strip(" \t\f\n;\\")
    rest = new.rest if has_comment or old.is_definition or new.is_definition else old.rest
    return replace(new, lead=lead, rest=rest)


def _blank_lines(lead: str) -> int:
    return lead[: len(lead) - len(lead.lstrip())].count("\n")


def _gap(above: Piece, below: Piece) -> int:
    """How many blank lines belong between two statements."""
    if above.is_definition or below.is_definition:
        return 2
    return int(above.docstring is not None or above.is_import != below.is_import)
