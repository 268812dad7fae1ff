"""A source as its top-level statements: where each one ends as text, and what running it does to names.

Nothing is imported or run. `ast` tells what a statement is; text tells how it was written.
"""

import ast
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain


def unix(source: str) -> str:
    return source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to warn of is shown when the program runs
        tree = ast.parse(source)
        compile(source, "program", "exec", dont_inherit=True)  # finds more: `return` outside a function
    return tree


@dataclass
class Names(ast.NodeVisitor):
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

    def _inside(self, nodes: Iterable[ast.AST], calling: bool = False) -> "Names":
        inner = Names(self.postponed, self.calling or calling)
        for node in nodes:
            inner.visit(node)
        return inner

    def _take(self, inner: "Names", hidden: set[str] | None = None) -> None:
        for kind in ("binds", "reads", "runs", "later"):
            getattr(self, kind).update(getattr(inner, kind) - (hidden or set()))

    def _take_body(self, arguments: ast.arguments, body: Iterable[ast.AST], hidden: set[str]) -> None:
        inner = Names(self.postponed)._inside(body)
        parameters = {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)}
        reads = (inner.reads | inner.later) - (hidden | parameters | inner.binds - inner.globals)
        # A lambda that is handed to a function may run at once.
        (self.reads if self.calling else self.later).update(reads)

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


_LEAD = re.compile(r"(?:[ \t\f]*(?:#[^\n]*)?\n)*")  # blank and comment lines
_REST = re.compile(  # of a statement's last line, and indented comments below it: they still speak of it
    r"(?:[ \t\f;]|\\\n)*(#[^\n]*)?\n(?:(?:[ \t\f]*\n)*[ \t]+#[^\n]*\n)*"
)
_SEMICOLON = re.compile(r"(?:[ \t\f;]|\\\n)*")


@dataclass(frozen=True)
class Piece:
    """One top-level statement as text: `lead` (blank and comment lines above it), `code`, `rest` (of its last line)."""

    lead: str
    code: str
    rest: str
    node: ast.stmt
    names: Names

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
            return {alias.asname or alias.name: (module, alias.name) for alias in self.node.names}
        aliases = self.node.names if isinstance(self.node, ast.Import) else []
        return {alias.asname or alias.name: (None, alias.name) for alias in aliases}


def pieces_of(source: str, postponed: bool = False) -> list[Piece]:
    """The statements of a source in order; one that shares its line with another gets a line of its own.

    The last piece is the end: no code, and as its lead the comments after the last statement.
    """
    source = unix(source)
    tree = parse(source)
    source += "" if source.endswith("\n") or not source else "\n"
    line_starts = [0, *(match.end() for match in re.finditer("\n", source))]  # as ast counts lines: by \n alone
    pieces, at = [], 0
    for node in tree.body:
        begin = found(_LEAD.match(source, at)).end()
        line_start = line_starts[(node.end_lineno or 1) - 1]
        before = source[line_start:].partition("\n")[0].encode()[: node.end_col_offset]  # ast counts bytes of UTF-8
        end = line_start + len(before.decode())
        rest = _REST.match(source, end)
        names = Names(postponed)
        names.visit(node)
        pieces.append(Piece(source[at:begin], source[begin:end], rest[0] if rest else "\n", node, names))
        at = (rest or found(_SEMICOLON.match(source, end))).end()
    return [*pieces, Piece(source[at:], "", "", ast.Pass(), Names())]


def found(match: re.Match[str] | None) -> re.Match[str]:
    assert match is not None  # for patterns that match the empty string, too
    return match
