"""An experiment: one file under `experiments/`, read as text, and spliced into the baseline where it is an overlay.

Nothing here imports or runs what it reads. The splice works on text, so comments and formatting of both files survive,
and on whole top-level statements: `ast` tells where each one ends and which names it binds and reads.
"""

import ast
import difflib
import hashlib
import re
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from pytest_autoresearch import BadInput

SPOKEN = frozenset({"TRACK", "GOAL", "SEARCH_SPACE", "CONSTRAINTS"})
"""Names that speak to the plugin: never spliced."""


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """The complete Python source that runs."""

    source: str

    @property
    def sha(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclass(frozen=True)
class Experiment:
    """One file under `experiments/`. `name` is its path there without `.py`; `track` is its TRACK, if it has one."""

    name: str
    path: Path
    source: str
    description: str
    is_overlay: bool
    track: str | None

    @property
    def sha(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def program(self, baseline_source: str, baseline_path: Path | str) -> Program:
        """What runs: the experiment itself, or the baseline with it applied. BadInput where there is no `train`."""
        if not self.is_overlay:
            return Program(self.source)
        _checked(baseline_source, baseline_path)
        program = Program(splice(baseline_source, self.source))
        if not _binds("train", _pieces(program.source)):
            raise BadInput(f"{baseline_path}: defines no `train`, and neither does {self.path}; a program must")
        return program


def read_experiment(path: Path, root: Path) -> Experiment:
    """Read one file of the experiments folder `root`. BadInput says in one line why it can be no experiment."""
    try:
        source = _unix(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8") from None
    *pieces, _ = _checked(source, path)
    if not pieces:
        raise BadInput(f"{path}: empty; write a program that defines `train`, or `from baseline import *` and a change")
    is_overlay = any(_is_overlay_line(piece.node) for piece in pieces)
    for node in chain.from_iterable(ast.walk(piece.node) for piece in pieces if not _is_overlay_line(piece.node)):
        if isinstance(node, ast.Import | ast.ImportFrom) and _imports_baseline(node):
            raise BadInput(f"{path}:{node.lineno}: `{ast.unparse(node)}`: write `from baseline import *`, at top level")
    if not is_overlay and not _binds("train", pieces):
        raise BadInput(f"{path}: neither a program (it defines no `train`) nor an overlay (`from baseline import *`)")

    name = path.relative_to(root).with_suffix("").as_posix()
    # What does not print (a tab, a control character, half a surrogate pair) would break the ledger's lines.
    printable = "".join(c if c.isprintable() else " " for c in (pieces[0].string or "").strip().partition("\n")[0])
    return Experiment(name, path, source, " ".join(printable.split()) or name, is_overlay, _track(pieces, path))


def _track(pieces: list["_Piece"], path: Path) -> str | None:
    track = None
    for piece in pieces:
        if "TRACK" in piece.names.binds:
            node = piece.node
            plain = isinstance(node, ast.AnnAssign) or (isinstance(node, ast.Assign) and len(node.targets) == 1)
            value = getattr(node, "value", None)
            if not (plain and isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.strip()):
                found = piece.code.partition("\n")[0]
                raise BadInput(f'{path}:{node.lineno}: `{found}`: must be a literal string, as in TRACK = "cpu"')
            track = value.value
    return track


def _unix(source: str) -> str:
    return source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to warn of is shown when the program runs
        tree = ast.parse(source)
        compile(
            source, "program", "exec", dont_inherit=True
        )  # finds what parsing does not: `return` outside a function
    return tree


def _checked(source: str, path: Path | str) -> list["_Piece"]:
    """The pieces of what a user wrote. BadInput where it is not Python."""
    try:
        if "\0" in source:  # Python 3.11 has another exception for it, and no line
            line = source.count("\n", 0, source.index("\0")) + 1
            raise SyntaxError("source code cannot contain null bytes", (None, line, None, None))
        return _pieces(source)
    except SyntaxError as error:
        raise BadInput(f"{path}:{error.lineno or 1}: {' '.join(error.msg.split())}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"{path}: cannot be parsed: {' '.join(str(error).split()) or 'nested too deeply'}") from None


def _binds(name: str, pieces: Iterable["_Piece"]) -> bool:
    return any(name in piece.names.binds for piece in pieces)


def _imports_baseline(node: ast.Import | ast.ImportFrom) -> bool:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return getattr(node, "level", 0) == 0 and any(module.partition(".")[0] == "baseline" for module in modules)


def _is_overlay_line(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module, node.level, node.names[0].name) == ("baseline", 0, "*")


# -- what a statement does to names ------------------------------------------------------------------------------------


@dataclass
class _Names(ast.NodeVisitor):
    """What running a statement does to the names of its scope.

    A statement that deletes a name, or binds it only on a condition, counts as reading it: the old value matters.
    Where Python leaves it open, `reads` holds too much: that costs a line that could have gone, too little a NameError.
    """

    postponed: bool = False  # annotations are not evaluated: `from __future__ import annotations`
    calling: bool = False  # inside a call
    binds: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)  # at once
    runs: set[str] = field(default_factory=set)  # those of `reads` that may be called at once
    later: set[str] = field(default_factory=set)  # read only when a function's body runs
    changes: set[str] = field(default_factory=set)  # changed in place: `GPT.forward = f`, `CONFIG.update(…)`
    globals: set[str] = field(default_factory=set)  # declared so
    acts: bool = False  # does something besides binding

    @property
    def writes(self) -> set[str]:
        return self.binds | self.changes

    def _inside(self, nodes: Iterable[ast.AST], calling: bool = False) -> "_Names":
        inner = _Names(self.postponed, self.calling or calling)
        for node in nodes:
            inner.visit(node)
        return inner

    def _take(self, inner: "_Names", hidden: set[str] | None = None) -> None:
        for kind in ("binds", "reads", "runs", "later"):
            getattr(self, kind).update(getattr(inner, kind) - (hidden or set()))

    def _take_body(self, arguments: ast.arguments, body: Iterable[ast.AST], hidden: set[str]) -> None:
        inner = _Names(self.postponed)._inside(body)
        parameters = {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)}
        self.later |= (inner.reads | inner.later) - (hidden | parameters | inner.binds - inner.globals)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.binds.add(node.id)
        if not isinstance(node.ctx, ast.Store):
            self.reads.add(node.id)
            self.runs |= {node.id} if self.calling else set()

    def visit_Call(self, node: ast.Call) -> None:
        self._take(self._inside(ast.iter_child_nodes(node), calling=True))

    def _reads_target(self, node: ast.NamedExpr | ast.AugAssign) -> None:
        self.reads |= {node.target.id} if isinstance(node.target, ast.Name) else set()
        self.generic_visit(node)

    visit_NamedExpr = visit_AugAssign = _reads_target

    def _annotation(self, node: ast.AST | None) -> None:
        (self.later if self.postponed else self.reads).update(self._inside([node] if node else []).reads)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        for part in (node.target, node.value) if node.value else ():
            self.visit(part)

    def visit_arg(self, node: ast.arg) -> None:
        self._annotation(node.annotation)

    def _change(self, node: ast.expr) -> None:
        self.acts = True
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        self.changes |= {node.id} if isinstance(node, ast.Name) else set()

    def _item(self, node: ast.Attribute | ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript = _item

    def visit_Expr(self, node: ast.Expr) -> None:
        self.acts |= not isinstance(node.value, ast.Constant)
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            self._change(node.value.func)
        self.generic_visit(node)

    def _act(self, node: ast.AST) -> None:
        self.acts = True
        self.generic_visit(node)

    visit_Assert = visit_Raise = _act

    def _on_condition(self, node: ast.AST) -> None:
        self.generic_visit(node)
        self.reads |= self.binds

    visit_If = visit_For = visit_While = visit_Try = visit_TryStar = visit_With = visit_Match = _on_condition

    def _string_name(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        self.binds |= {name} if name else set()
        self.generic_visit(node)

    visit_ExceptHandler = visit_MatchAs = visit_MatchStar = visit_MatchMapping = _string_name

    def visit_alias(self, node: ast.alias) -> None:
        self.binds |= {node.asname or node.name.partition(".")[0]} - {"*"}

    def visit_Global(self, node: ast.Global) -> None:
        self.globals.update(node.names)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)  # the defaults
        self._take_body(node.args, [node.body], set())

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        targets = chain.from_iterable(ast.walk(generator.target) for generator in node.generators)
        own = {target.id for target in targets if isinstance(target, ast.Name)}
        self._take(self._inside(ast.iter_child_nodes(node)), own)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._take(self._inside(node.decorator_list, calling=True))
        hidden = {parameter.name for parameter in getattr(node, "type_params", ())}  # Python 3.12 and later
        if isinstance(node, ast.ClassDef):
            inner = self._inside([*node.bases, *node.keywords, *node.body])
            inner.binds = inner.globals  # the rest are attributes, which the methods do not see as names
        else:
            inner = self._inside([node.args])
            inner._annotation(node.returns)
            inner._take_body(node.args, node.body, hidden)
        self._take(inner, hidden)
        self.binds.add(node.name)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition


# -- a source as pieces ------------------------------------------------------------------------------------------------

_LEAD = re.compile(r"(?:[ \t\f]*(?:#[^\n]*)?\n)*")  # blank and comment lines
_OWN_COMMENT = re.compile(r"(?:[ \t\f]*#(?!!)[^\n]*\n)*\Z")  # the comment lines directly above a statement
_REST = re.compile(  # of a statement's last line, and indented comments below it: they still speak of it
    r"(?:[ \t\f;]|\\\n)*(#[^\n]*)?\n(?:(?:[ \t\f]*\n)*[ \t]+#[^\n]*\n)*"
)
_SEMICOLON = re.compile(r"(?:[ \t\f;]|\\\n)*")
_POSTPONED = re.compile(r"^from __future__ import [^\n#]*\bannotations\b", re.MULTILINE)


@dataclass(frozen=True)
class _Piece:
    """One top-level statement as text: `lead` (blank and comment lines above it), `code`, `rest` (of its last line)."""

    lead: str
    code: str
    rest: str
    node: ast.stmt
    names: _Names

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def string(self) -> str | None:
        """What it says, where the statement is a bare string: a docstring."""
        value = self.node.value if isinstance(self.node, ast.Expr) else None
        return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None

    @property
    def is_guarded_import(self) -> bool:
        """`if TYPE_CHECKING: import …`, `try: import …`"""
        inside = ast.walk(self.node) if isinstance(self.node, ast.If | ast.Try) else ()
        return any(isinstance(node, ast.Import | ast.ImportFrom) for node in inside)

    def packages(self) -> set[str]:
        """The packages that it imports under their own names."""
        return {name.partition(".")[0] for name, origin in self.imports().items() if origin == (None, name)}

    def imports(self) -> dict[str, tuple[str | None, str]]:
        """What an import statement binds → where from. The submodules of one package are told apart by their path."""
        if isinstance(self.node, ast.ImportFrom):
            module = "." * self.node.level + (self.node.module or "")
            return {a.asname or a.name: (module, a.name) for a in self.node.names}
        return (
            {a.asname or a.name: (None, a.name) for a in self.node.names} if isinstance(self.node, ast.Import) else {}
        )


def _pieces(source: str, postponed: bool = False) -> list[_Piece]:
    """The statements of a source in order; one that shares its line with another gets a line of its own.

    The last piece is the end: no code, and as its lead the comments after the last statement.
    """
    source = _unix(source)
    tree = _parse(source)
    source += "" if source.endswith("\n") or not source else "\n"
    line_starts = [0, *(match.end() for match in re.finditer("\n", source))]  # as ast counts lines: by \n alone
    pieces, at = [], 0
    for node in tree.body:
        begin = _end(_LEAD.match(source, at))
        line_start = line_starts[(node.end_lineno or 1) - 1]
        before = source[line_start:].partition("\n")[0].encode()[: node.end_col_offset]  # ast counts bytes of UTF-8
        end = line_start + len(before.decode())
        rest = _REST.match(source, end)
        names = _Names(postponed)
        names.visit(node)
        pieces.append(_Piece(source[at:begin], source[begin:end], rest[0] if rest else "\n", node, names))
        at = rest.end() if rest else _end(_SEMICOLON.match(source, end))
    return [*pieces, _Piece(source[at:], "", "", ast.Pass(), _Names())]


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # a pattern that matches the empty string, too
    return match.end()


# -- the splice --------------------------------------------------------------------------------------------------------


def splice(baseline: str, overlay: str) -> str:
    """The baseline with the overlay applied: a complete, readable program that ends with one newline.

    Each statement of the overlay goes after the last statement of the baseline that binds one of its names, and takes
    its place where nothing reads the old value. New names go before the next such statement; new imports go to the
    imports. An overlay that changes nothing leaves every byte as it is. SyntaxError where either does not parse.
    """
    postponed = any(_POSTPONED.search(_unix(source)) for source in (baseline, overlay))
    base = _pieces(baseline, postponed)
    changes, pinned = _imports_placed(base, _changes(_pieces(overlay, postponed)))
    if not changes:
        return baseline
    places, needs = _places(base, changes, pinned)
    program = _assembled(base, changes, places, _heirs(base, changes, places, needs, pinned))
    _parse(program)
    return program


def _changes(overlay: list[_Piece]) -> list[_Piece]:
    """The statements of an overlay that go into the program."""
    changes: list[_Piece] = []
    spliced = False
    for piece in overlay:
        if piece.string is not None and spliced:  # the docstring of the constant above it
            changes[-1] = replace(changes[-1], rest=changes[-1].rest + piece.lead + piece.code + piece.rest)
        elif not piece.code:
            if spliced and piece.lead.strip():
                changes[-1] = replace(changes[-1], rest=changes[-1].rest + piece.lead.rstrip("\n") + "\n")
        else:
            spoken = bool(piece.names.writes) and piece.names.writes <= SPOKEN
            spliced = not (piece.string is not None or spoken or _is_overlay_line(piece.node))
            if spliced:
                changes.append(piece)
    return changes


def _last_bound(base: list[_Piece]) -> dict[str, int]:
    return {name: index for index, piece in enumerate(base) for name in piece.names.binds}


def _imports_placed(base: list[_Piece], changes: list[_Piece]) -> tuple[list[_Piece], dict[int, int]]:
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
    kept: list[_Piece] = []
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


def _is_future(piece: _Piece) -> bool:
    return isinstance(piece.node, ast.ImportFrom) and piece.node.module == "__future__"


def _needed(names: _Names, bound_by: Mapping[str, Iterable[_Names]]) -> set[str]:
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


def _bound_by(pieces: Iterable[_Piece]) -> dict[str, list[_Names]]:
    table: dict[str, list[_Names]] = {}
    for piece in pieces:
        for name in piece.names.binds:
            table.setdefault(name, []).append(piece.names)
    return table


def _places(base: list[_Piece], changes: list[_Piece], pinned: Mapping[int, int]) -> tuple[list[int], list[set[str]]]:
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
    base: list[_Piece], changes: list[_Piece], places: list[int], needs: list[set[str]], pinned: Container[int]
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


def _assembled(base: list[_Piece], changes: list[_Piece], places: list[int], heirs: Mapping[int, int]) -> str:
    """The program's text. Between statements that are the baseline's, or took the place of one, its spacing stays."""
    blocks: list[_Piece] = []
    settled: list[bool] = []

    def put(piece: _Piece, lead: str, is_settled: bool) -> None:
        blocks.append(replace(piece, lead=lead))
        settled.append(is_settled)

    base, changes = list(base), [replace(change, lead=change.lead.lstrip(" \t\f\n")) for change in changes]
    for index, heir in heirs.items():
        changes[heir] = _inheriting(base[index], changes[heir])
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


def _inheriting(old: _Piece, new: _Piece) -> _Piece:
    """The new statement with the comments of the one that it replaces: they say what the name is."""
    above = "" if old.lead.endswith(new.lead) else new.lead  # there already, where this overlay was promoted
    rest = new.rest
    comment = old.rest.lstrip(" \t\f;\\\n").rstrip()
    if comment and "\n" not in old.code + new.code and "#" not in rest.partition("\n")[0]:
        rest = f"  {comment}\n" + rest.partition("\n")[2]
    return replace(new, lead=_split(old.lead)[1] + above, rest=rest)


def _split(lead: str) -> tuple[str, str]:
    """What stands apart from a statement, and the comment lines directly above it."""
    own = _OWN_COMMENT.search(lead)
    return (lead[: own.start()], own[0]) if own else (lead, "")


def _blank_lines(lead: str) -> int:
    return lead[: len(lead) - len(lead.lstrip())].count("\n")


def _merged(apart: str, lead: str) -> str:
    """Two gaps become one."""
    if apart.strip():
        return apart + lead
    return "\n" * (_blank_lines(apart) - _blank_lines(lead)) + lead


def _gap(above: _Piece, below: _Piece) -> int:
    """How many blank lines belong between two statements, of which at least one is new here."""
    if above.is_definition or below.is_definition:
        return 2
    return int(above.string is not None or above.is_import != below.is_import)


# -- comparing ---------------------------------------------------------------------------------------------------------


def same_program(a: str, b: str) -> bool:
    """Whether two sources are one program: comments and formatting do not matter."""
    return a == b or ast.dump(_parse(_unix(a))) == ast.dump(_parse(_unix(b)))


def unified_diff(baseline: str, program: str, baseline_name: str = "baseline", program_name: str = "program") -> str:
    """The change as a patch; empty where there is none."""
    old, new = (_unix(source).removesuffix("\n").split("\n") for source in (baseline, program))
    lines = difflib.unified_diff(old, new, baseline_name, program_name, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def line_counts(baseline: str, program: str) -> tuple[int, int]:
    """Lines (added, removed), as a patch counts them."""
    lines = unified_diff(baseline, program).splitlines()[2:]  # without the two header lines
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def unreachable_overrides(program: str, overlay: str) -> list[str]:
    """The names that an overlay binds, where `train` can reach none of them: a typo, most likely. Else nothing.

    Reaching is by name, from `train` and from each top-level statement that does something besides binding.
    """
    changes = _changes(_pieces(overlay))
    if any(change.names.acts for change in changes):
        return []
    pieces = _pieces(program)
    bound_by = _bound_by(pieces)
    reached: set[str] = set()
    todo = {"train"}.union(*(piece.names.reads | piece.names.later for piece in pieces if piece.names.acts))
    while todo:
        reached |= todo
        todo = {name for n in todo for names in bound_by.get(n, ()) for name in names.reads | names.later} - reached
    bound = sorted({name for change in changes for name in change.names.binds})
    return [] if reached.intersection(bound) else bound
