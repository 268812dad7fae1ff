"""The top-level statements of a source: their text, and the names that each one reads and binds.

Nothing is imported or run.
"""

import ast
import codecs
import io
import re
import tokenize
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain


def unix(source: str) -> str:
    """The source with \\n at the end of each line and without a byte order mark."""
    return source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


DEPTH = 100
"""How many levels the syntax tree of a source may have. Real programs have some 20. Python's own functions for trees
are recursive, and work up to here wherever they are called from."""


@lru_cache(maxsize=16)
def parse(source: str) -> ast.Module:
    """The syntax tree. All callers share it, so do not change it.

    Raises SyntaxError, and RecursionError or MemoryError if the source is nested more than DEPTH levels deep.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns when the program runs
        if "\0" in source:  # Python 3.11 raises a ValueError, without the line
            line = source.count("\n", 0, source.index("\0")) + 1
            raise SyntaxError("source code cannot contain null bytes", (None, line, None, None))
        encoding, lines = tokenize.detect_encoding(io.BytesIO(source.encode()).readline)
        if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):  # in another one a comment may be code
            raise SyntaxError(f"declares the encoding {encoding}; it must be UTF-8", (None, len(lines), None, None))
        tree = ast.parse(source)
        level: list[ast.AST] = [tree]
        for _ in range(DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise RecursionError
        compile(source, "program", "exec", dont_inherit=True)  # also finds `return` outside a function
    return tree


@dataclass
class Names:
    """The names that statements read, bind and change in their scope.

    If only running the statements could tell, a name is in `reads`: one too many costs a superfluous line in a program,
    one too few a NameError.
    """

    postponed: bool = False  # annotations are not evaluated: `from __future__ import annotations`
    calling: bool = False  # inside a call
    binds: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)  # at once
    runs: set[str] = field(default_factory=set)  # the part of `reads` that may be called at once
    may_bind: set[str] = field(default_factory=set)  # the part of `binds` that may stay unbound: `if`, `for`, `try`
    later: set[str] = field(default_factory=set)  # read only when the body of a function runs
    changes: set[str] = field(default_factory=set)  # changed in place: `GPT.forward = f`, `CONFIG.update(…)`
    globals: set[str] = field(default_factory=set)  # declared with `global`
    acts: bool = False  # does something besides binding

    @property
    def writes(self) -> set[str]:
        return self.binds | self.changes

    @property
    def mentions(self) -> set[str]:
        return self.reads | self.later

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                self.binds |= {node.id} if not isinstance(node.ctx, ast.Load) else set()
                self.reads |= {node.id} if not isinstance(node.ctx, ast.Store) else set()
                self.runs |= {node.id} if self.calling else set()
            case ast.NamedExpr(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
                self.reads.add(name)
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                self._change(node)
            case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
                self._change(method)
            case ast.Expr() | ast.Assert() | ast.Raise():
                self.acts |= not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                self.binds.add(name)
            case ast.MatchMapping(rest=str(name)):
                self.binds.add(name)
            case ast.Global():
                self.globals.update(node.names)
            case ast.Import():  # `import torch.fx` adds to the package that `import torch` has bound
                self.reads |= {alias.name.partition(".")[0] for alias in node.names if not alias.asname}
            case ast.alias(asname=None):
                self.binds |= {node.name.partition(".")[0]} - {"*"}
            case ast.alias(asname=str(name)):
                self.binds.add(name)
        self._visit_inside(node)
        if isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.TryStar | ast.With | ast.Match):
            self.may_bind |= self.binds

    def _visit_inside(self, node: ast.AST) -> None:
        match node:
            case ast.Call():
                self._add(self._inside(ast.iter_child_nodes(node), calling=True))
            case ast.AnnAssign() | ast.arg():
                self._visit_annotation(node.annotation)
                for part in [node.target, node.value] if isinstance(node, ast.AnnAssign) and node.value else []:
                    self.visit(part)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                targets = chain.from_iterable(ast.walk(generator.target) for generator in node.generators)
                own = {target.id for target in targets if isinstance(target, ast.Name)}
                self._add(self._inside(ast.iter_child_nodes(node)), hidden=own)
            case ast.Lambda():
                self.visit(node.args)  # the defaults
                self._add_body(node.args, [node.body])
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._visit_definition(node)
            case _:
                for child in ast.iter_child_nodes(node):
                    self.visit(child)

    def _visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._add(self._inside(node.decorator_list, calling=True))
        hidden = {parameter.name for parameter in getattr(node, "type_params", ())}  # Python 3.12 and later
        if isinstance(node, ast.ClassDef):
            inner = self._inside([*node.bases, *node.keywords, *node.body])
            inner.binds = inner.globals  # the rest are attributes, which methods do not see as names
        else:
            inner = self._inside([node.args])
            inner._visit_annotation(node.returns)
            inner._add_body(node.args, node.body, hidden)
        self._add(inner, hidden)
        self.binds.add(node.name)

    def _visit_annotation(self, node: ast.expr | None) -> None:
        (self.later if self.postponed else self.reads).update(self._inside([node] if node else []).reads)

    def _inside(self, nodes: Iterable[ast.AST], calling: bool = False) -> "Names":
        inner = Names(self.postponed, self.calling or calling)
        for node in nodes:
            inner.visit(node)
        return inner

    def _add(self, inner: "Names", hidden: Iterable[str] = ()) -> None:
        for kind in ("binds", "reads", "runs", "later"):
            getattr(self, kind).update(getattr(inner, kind).difference(hidden))

    def _add_body(self, arguments: ast.arguments, body: Iterable[ast.AST], hidden: Iterable[str] = ()) -> None:
        inner = Names(self.postponed)._inside(body)
        local = {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)} | inner.binds - inner.globals
        # A lambda that is passed to a function may run at once.
        (self.reads if self.calling else self.later).update(inner.mentions - local.union(hidden))

    def _change(self, node: ast.expr) -> None:
        self.acts = True
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        self.changes |= {node.id} if isinstance(node, ast.Name) else set()


_LEAD = re.compile(r"(?:[ \t\f]*(?:#[^\n]*)?\n)*")  # blank lines and comment lines
_REST = re.compile(  # of the last line of a statement, and indented comments below it, which belong to its body
    r"(?:[ \t\f;]|\\\n)*(#[^\n]*)?\n(?:(?:[ \t\f]*\n)*[ \t]+#[^\n]*\n)*"
)
_SEMICOLON = re.compile(r"(?:[ \t\f;]|\\\n)*")


@dataclass(frozen=True)
class Piece:
    """One top-level statement as text.

    `lead` holds the blank lines and comment lines above it, `code` the statement itself, `rest` the end of its last
    line and, below that, indented comments and a bare string (the docstring of a constant).
    """

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
    def docstring(self) -> str | None:
        """The text, if the statement is a bare string."""
        value = self.node.value if isinstance(self.node, ast.Expr) else None
        return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None

    def imports(self) -> dict[str, tuple[str | None, str]]:
        """Each name that an import statement binds (`a.b` for `import a.b`) → its module and its name there."""
        if isinstance(self.node, ast.ImportFrom):
            module = "." * self.node.level + (self.node.module or "")
            return {alias.asname or alias.name: (module, alias.name) for alias in self.node.names}
        aliases = self.node.names if isinstance(self.node, ast.Import) else []
        return {alias.asname or alias.name: (None, alias.name) for alias in aliases}


@lru_cache(maxsize=16)
def pieces_of(source: str, postponed: bool = False) -> tuple[Piece, ...]:
    """The statements of a source in order. The last piece is the end: no code, and the last comments as its lead.

    Statements on one line are separated. `postponed`: annotations are not evaluated. Raises the errors of `parse`.
    """
    source = unix(source)
    tree = parse(source)
    source += "" if source.endswith("\n") or not source else "\n"
    line_starts = [0, *(match.end() for match in re.finditer("\n", source))]  # as in ast, only \n ends a line
    pieces: list[Piece] = []
    at = 0
    for node in tree.body:
        begin = matched(_LEAD, source, at).end()
        line_start = line_starts[(node.end_lineno or 1) - 1]
        before = source[line_start : source.index("\n", line_start)].encode()[: node.end_col_offset]  # bytes of UTF-8
        end = line_start + len(before.decode())
        rest = _REST.match(source, end)
        names = Names(postponed)
        names.visit(node)
        piece = Piece(source[at:begin], source[begin:end], rest[0] if rest else "\n", node, names)
        at = (rest or matched(_SEMICOLON, source, end)).end()
        if pieces and piece.docstring is not None:
            pieces[-1] = replace(pieces[-1], rest=pieces[-1].rest + piece.lead + piece.code + piece.rest)
        else:
            pieces.append(piece)
    return (*pieces, Piece(source[at:], "", "", ast.Pass(), Names()))


def matched(pattern: re.Pattern[str], source: str, at: int) -> re.Match[str]:
    """The match of a pattern that also matches the empty string."""
    match = pattern.match(source, at)
    assert match is not None
    return match


def without(source: str, names: Collection[str]) -> str:
    """The source without the statements that bind only these names, and without the comments directly above them.

    Raises the errors of `parse`.
    """
    pieces = pieces_of(source)
    dropped = [bool(piece.names.writes) and piece.names.writes <= {*names} for piece in pieces]
    if not any(dropped):
        return source
    kept = [
        piece.lead[: piece.lead.rfind("\n\n") + 1] if drop else piece.lead + piece.code + piece.rest
        for piece, drop in zip(pieces, dropped, strict=True)
    ]
    return "".join(kept).rstrip() + "\n"
