"""One class from a class and its subclass of the same name, as text."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_autoresearch.programs.statements import Names, Piece
from pytest_autoresearch.programs.supers import (
    Unsafe,
    above,
    first_line,
    is_comment,
    is_super,
    require_own_lines,
    with_body,
    with_value,
)

DECORATORS = frozenset({"property", "staticmethod", "classmethod", "torch.no_grad()", "torch.inference_mode()"})
"""Decorators of methods that only change the method."""
SPECIAL = frozenset({"__init__", "__call__", "__getattr__", "__len__", "__iter__", "__getitem__", "__repr__"})
"""Methods of which Python does not change the meaning when it makes a class, as it does with `__eq__`."""


@dataclass(frozen=True)
class _Member:
    """A statement in the body of a class as whole lines: `lead`, the blank lines and comments above it, and `code`."""

    node: ast.stmt
    lead: list[str]
    code: list[str]

    @property
    def name(self) -> str:
        """The name that it binds; "" for a docstring and for an annotation without a value."""
        match self.node:
            case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                return name
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value:
                return name
        return ""


def merge(earlier: Piece, later: Piece, source: str) -> str | None:
    """The text of one class that does what the subclass does; None where that is not plainly safe."""
    lines = source.split("\n")
    try:
        head, old = _members(earlier, lines)
        _, new = _members(later, lines)
        _check(old, new)
        known = {member.name: member for member in old if member.name}
        new = [_without_super(member, known, lines) for member in new]
    except Unsafe:
        return None
    replacements = {member.name: member for member in new if member.name}
    if _is_docstring(new[0]):
        old = [replace(new[0], lead=[]), *(old[1:] if _is_docstring(old[0]) else old)]
    body = [_replaced(member, replacements.get(member.name)) for member in old]
    added = [member for member in new if member.name not in known and not _is_docstring(member)]
    values = [member for member in added if not isinstance(member.node, ast.FunctionDef)]
    top = next((i for i, member in enumerate(body) if isinstance(member.node, ast.FunctionDef)), len(body))
    body = [*body[:top], *values, *body[top:], *(member for member in added if member not in values)]
    text = list(head)
    for number, member in enumerate(body):
        is_method = isinstance(member.node, ast.FunctionDef)
        lead = [line for line in member.lead if line.strip()] if member in added or number == 0 else member.lead
        text += [""] if member in added and is_method and number and lead[:1] != [""] else []
        text += [*lead, *member.code]
    return "\n".join([*text, *_tail(earlier), *_tail(later)]) + "\n"


def _members(piece: Piece, lines: Sequence[str]) -> tuple[list[str], list[_Member]]:
    """The first lines of a class, and its body. Raises Unsafe unless each statement there has lines of its own."""
    node = piece.node
    assert isinstance(node, ast.ClassDef)
    if getattr(node, "type_params", None) or node.col_offset or any(not is_comment(line) for line in _tail(piece)):
        raise Unsafe
    first = first_line(node.body[0]) - 1
    end = above(lines, first)
    head = list(lines[node.lineno - 1 : end])
    members = []
    for statement in node.body:
        begin = first_line(statement) - 1
        require_own_lines(statement, lines)
        members.append(_Member(statement, list(lines[end:begin]), list(lines[begin : statement.end_lineno])))
        end = statement.end_lineno or 0
    return head, members


def _check(old: Sequence[_Member], new: Sequence[_Member]) -> None:
    """Raise Unsafe unless the bodies consist of methods and values that do not depend on their order."""
    if _indentation(old[0]) != _indentation(new[0]):
        raise Unsafe
    bound = {member.name for member in (*old, *new)} - {""}
    for body in (old, new):
        names = [member.name for member in body if member.name]
        if len(set(names)) < len(names):
            raise Unsafe
        for number, member in enumerate(body):
            is_plain = member.name or isinstance(member.node, ast.AnnAssign) or (number == 0 and _is_docstring(member))
            reads = Names()
            reads.visit(member.node)
            decorators = {ast.unparse(each) for each in getattr(member.node, "decorator_list", [])}
            at_once = Names()
            for part in _evaluated(member.node):
                at_once.visit(part)
            if not is_plain or not decorators <= DECORATORS or at_once.runs or reads.acts:
                raise Unsafe
            if reads.reads & bound or (member.name.startswith("__") and member.name not in SPECIAL):
                raise Unsafe
            supers = [part for part in ast.walk(member.node) if isinstance(part, ast.Name) and part.id == "super"]
            if len(supers) > sum(is_super(part) for part in ast.walk(member.node)):
                raise Unsafe


def _evaluated(node: ast.stmt) -> list[ast.AST]:
    """The parts of a member that run when the class is made, without decorators."""
    if not isinstance(node, ast.FunctionDef):
        return [node]
    return [node.args, *([node.returns] if node.returns else [])]


def _replaced(old: _Member, new: _Member | None) -> _Member:
    """The new version of a member in the place of the old one."""
    if new is None:
        return old
    comments = [line for line in new.lead if line.strip()]
    return replace(new, lead=[*(line for line in old.lead if not line.strip()), *comments] if comments else old.lead)


def _without_super(member: _Member, known: dict[str, _Member], lines: Sequence[str]) -> _Member:
    """A method with the code of its predecessor in place of `super().name(…)`. Raises Unsafe where that differs."""
    calls = [node for node in ast.walk(member.node) if is_super(node) and node.attr in known]
    if not calls:
        return member
    method, old = member.node, known.get(member.name)
    if len(calls) > 1 or old is None or calls[0].attr != member.name:
        raise Unsafe
    before = old.node
    if not isinstance(method, ast.FunctionDef) or not isinstance(before, ast.FunctionDef):
        raise Unsafe
    if method.decorator_list or before.decorator_list:
        raise Unsafe
    replaced = with_body if member.name == "__init__" else with_value
    return replace(member, code=replaced(method, before, calls[0], lines))


def _tail(piece: Piece) -> list[str]:
    """The lines that belong to a statement below its last one."""
    return piece.rest.split("\n")[1:-1]


def _indentation(member: _Member) -> str:
    return member.code[0][: len(member.code[0]) - len(member.code[0].lstrip())]


def _is_docstring(member: _Member) -> bool:
    value = member.node.value if isinstance(member.node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
