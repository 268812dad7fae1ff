"""Take out of a program what nothing uses: top-level definitions, constants and imports.

A statement goes only if it does nothing but bind names. What `train` needs always stays.
"""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

from pytest_autoresearch.programs.compare import reads_itself, without_docstrings
from pytest_autoresearch.programs.size import runs_text
from pytest_autoresearch.programs.statements import Piece, pieces_of

HIDING = frozenset(
    {
        "globals",
        "__main__",
        "locals",
        "vars",
        "dir",
        "sys",
        "inspect",
        "importlib",
        "get_objects",
        "get_referrers",
        "get_type_hints",
    }
    | {"__class__", "__name__", "__qualname__", "__module__", "__annotations__", "__mro__", "__base__", "__bases__"}
    | {"__subclasses__", "__init_subclass__", "__set_name__", "__slots__", "__new__", "__getattribute__", "metaclass"}
)
"""Names by which a program may use a definition, or see how it is written, without naming it."""
HARMLESS = frozenset(
    {"abs", "bool", "dict", "float", "frozenset", "int", "len", "list", "max", "min", "range", "round", "set", "sorted"}
    | {"str", "sum", "tuple"}
)
"""Functions of Python whose calls only return a value. Those of `math` are like that, too."""
KNOWN = sys.stdlib_module_names | {"numpy", "torch", "pytest_autoresearch"}
"""Packages whose import changes nothing that a program does."""
DOING = (
    *(ast.Attribute, ast.Subscript, ast.Starred, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
    *(ast.FormattedValue, ast.ListComp, ast.SetComp, ast.DictComp),
)
"""Expressions that run code of the objects in them, as a property or `__add__`, or use up an iterator."""
LINE_LENGTH = 120
_COMMENT = re.compile(r"(?:[ \t\f]*#[^\n]*\n)+\Z")  # the comment right above a statement


@lru_cache(maxsize=16)
def hides_uses(source: str) -> bool:
    """Whether a program may use a name, or see how it is written, without naming it. Raises the errors of `parse`."""
    return reads_itself(source) or bool(runs_text(source)) or not HIDING.isdisjoint(_words(source))


def without_unused(source: str) -> str:
    """The program without what nothing uses; unchanged if there is nothing such, or if the program hides its uses.

    Raises the errors of `parse`.
    """
    if hides_uses(source):
        return source
    uses = Uses(pieces_of(source), _words(source, only_strings=True))
    text = lead = ""
    is_changed = False
    for number, piece in enumerate(uses.pieces):
        lead += piece.lead
        if uses.is_unused(piece):
            lead = _heading(lead, uses.pieces[number + 1])
            is_changed = True
        else:
            code = uses.used_imports(piece)
            is_changed |= code != piece.code
            text += lead + code + (piece.rest if code else "")
            lead = ""
    return text if is_changed else source


class Uses:
    """Which names of a program its statements use. `words` are names that are used in another way, as in strings."""

    def __init__(self, pieces: Sequence[Piece], words: set[str]) -> None:
        self.pieces = pieces
        self.words = words
        self.bound = set[str]().union(*(piece.names.binds for piece in pieces))
        nodes = (node for piece in pieces for node in ast.walk(piece.node))
        self.attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        self.active = set[str]()  # names of what may run code of this program when it is used
        self.removable = set[int]()
        for piece in pieces:
            if self._only_binds(piece):
                self.removable.add(id(piece))
                if any(isinstance(node, ast.GeneratorExp) for node in ast.walk(piece.node)):
                    self.active |= piece.names.binds
            elif not piece.is_import:
                names = piece.names
                self.active |= names.writes | (names.reads & self.bound - self._imported if names.acts else set())

    def is_unused(self, piece: Piece) -> bool:
        """Whether a statement may go."""
        return id(piece) in self.removable and self.used.isdisjoint(piece.names.binds)

    def used_imports(self, piece: Piece) -> str:
        """The code of a statement; of `from m import a, b` without the names that nothing uses."""
        node = piece.node
        if not isinstance(node, ast.ImportFrom) or id(piece) not in self.removable or "#" in piece.code:
            return piece.code
        names = [alias for alias in node.names if (alias.asname or alias.name) in self.used]
        code = ast.unparse(ast.ImportFrom(node.module, names, node.level))
        return piece.code if len(names) == len(node.names) or len(code) > LINE_LENGTH else code

    @cached_property
    def _imported(self) -> set[str]:
        return set[str]().union(*(piece.names.binds for piece in self.pieces if piece.is_import))

    @cached_property
    def used(self) -> set[str]:
        """`train`, what the statements that act mention, and what all of those mention in turn."""
        bound_by: dict[str, list[Piece]] = {}
        todo = {"train", *self.words}
        for piece in self.pieces:
            if id(piece) in self.removable:
                for name in piece.names.binds:
                    bound_by.setdefault(name, []).append(piece)
            else:
                todo |= piece.names.mentions
        used = set[str]()
        while todo:
            used.add(name := todo.pop())
            for piece in bound_by.get(name, ()):
                todo |= piece.names.mentions - used
        return used

    @cached_property
    def plain_classes(self) -> set[str]:
        """The names that only stand for classes of this program whose bases do nothing when they get a subclass."""
        plain = set[str]()
        for piece in self.pieces:
            node, names = piece.node, piece.names.binds
            is_plain = isinstance(node, ast.ClassDef) and not node.decorator_list and not node.keywords
            if isinstance(node, ast.ClassDef) and is_plain and all(self._is_plain(base, plain) for base in node.bases):
                plain |= names
            else:
                plain -= names
        return plain

    @staticmethod
    def _is_plain(base: ast.expr, plain: set[str]) -> bool:
        name = ast.unparse(base)
        return name in plain or (
            isinstance(base, ast.Attribute) and name.startswith(("nn.", "torch.nn.", "torch.optim."))
        )

    def _only_binds(self, piece: Piece) -> bool:
        """Whether a statement does nothing but bind names, and none that Python knows."""
        names, node = piece.names, piece.node
        if names.acts or not names.binds or any(name.startswith("__") for name in names.binds):
            return False
        if isinstance(node, ast.Import | ast.ImportFrom):
            is_special = isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")
            return not is_special and _is_known(node) and not self._may_load(piece)
        if isinstance(node, ast.ClassDef) and not names.binds <= self.plain_classes:
            return False
        if getattr(node, "decorator_list", None):
            return False
        _, *parts = _at_once(node)
        plain = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        does = any(isinstance(part, DOING) or _unpacks(part) for part in [node, *parts])
        is_settled = not does or self.active.isdisjoint(names.reads)
        return isinstance(node, plain) and is_settled and not any(self._has_effect(part) for part in parts)

    def _may_load(self, piece: Piece) -> bool:
        """Whether an import may load a module that is used by its path: `import a.b as c`, and then `a.b.f()`."""
        paths = [".".join(filter(None, parts)) for parts in piece.imports().values()]
        return any(not self.attributes.isdisjoint(path.split(".")[1:]) for path in paths)

    def _has_effect(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id=name)):
                return name not in HARMLESS or name in self.bound or bool(node.keywords)  # key=f calls f
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                return name != "math"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return bool(node.decorator_list)
            case ast.Assign() | ast.AnnAssign() | ast.Pass() | ast.Expr():
                return False
        return isinstance(node, ast.stmt | ast.Call | ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom)


def _is_known(node: ast.Import | ast.ImportFrom) -> bool:
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return all(module.partition(".")[0] in KNOWN for module in modules)


def _unpacks(node: ast.AST) -> bool:
    return isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Store)


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """A node and its parts, without the bodies of functions, which run later."""
    yield node
    later: list[ast.AST] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        later += node.body
    elif isinstance(node, ast.Lambda):
        later.append(node.body)
    for child in ast.iter_child_nodes(node):
        if child not in later:
            yield from _at_once(child)


def _words(source: str, only_strings: bool = False) -> set[str]:
    """Every word in the strings of a program and, unless `only_strings`, every name; without docstrings."""
    texts = [
        value
        for node in ast.walk(without_docstrings(source))
        if isinstance(node, ast.Constant) or not only_strings
        for field, value in ast.iter_fields(node)
        if isinstance(value, str)
    ]
    return {word for text in texts for word in re.findall(r"\w+", text)}


def _heading(lead: str, following: Piece) -> str:
    """What stays of the text above a statement that goes: the heading of a group, and comments that stand apart."""
    if following.code and not following.lead:
        return lead
    rest = _COMMENT.sub("", lead)
    if not following.code or following.lead.startswith("\n"):
        return rest.rstrip("\n") + "\n" if rest.strip() else ""
    return rest
