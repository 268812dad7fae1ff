"""What `super()` stands for: the code of the class in place of a call from its subclass, as text."""

import ast
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from pytest_autoresearch.programs.statements import Names


class Unsafe(Exception):
    """Two classes that are better left alone."""


def is_super(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether a node is `super().name`."""
    match node:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[], keywords=[])):
            return True
    return False


def with_body(method: ast.FunctionDef, before: ast.FunctionDef, super_: ast.AST, lines: Sequence[str]) -> list[str]:
    """The lines of `method` with the body of `before` in place of the statement `super().__init__(…)`."""
    statement = next((s for s in method.body if isinstance(s, ast.Expr) and _is_call_of(s.value, super_)), None)
    body = before.body[1:] if ast.get_docstring(before, clean=False) is not None else before.body
    if statement is None or not body:
        raise Unsafe
    for each in (statement, *body):
        require_own_lines(each, lines)
    kinds = ast.Return | ast.Yield | ast.YieldFrom | ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    kinds |= ast.Global | ast.Nonlocal | ast.Await | ast.Import | ast.ImportFrom
    if (
        any(isinstance(node, kinds) for each in body for node in ast.walk(each))
        or statement.col_offset != body[0].col_offset
    ):
        raise Unsafe
    assert isinstance(statement.value, ast.Call)
    _check_arguments(statement.value, method, before)
    here, there = _names([*method.args.args, *method.body]), _names(body)
    locals_here = {argument.arg for argument in method.args.args} | here.binds
    if there.binds & (here.mentions | locals_here) or here.binds & there.mentions:
        raise Unsafe
    if (there.mentions - {argument.arg for argument in before.args.args}) & locals_here:
        raise Unsafe
    first, last = first_line(body[0]) - 1, body[-1].end_lineno
    begin, end = first_line(method) - 1, method.end_lineno
    inlined = lines[above(lines, first) : last]
    inlined = inlined[next(i for i, line in enumerate(inlined) if line.strip()) :]
    return [*lines[begin : statement.lineno - 1], *inlined, *lines[statement.end_lineno : end]]


def with_value(method: ast.FunctionDef, before: ast.FunctionDef, super_: ast.AST, lines: Sequence[str]) -> list[str]:
    """The lines of `method` with what `before` returns in place of the call `super().name(…)`."""
    *docstring, last = before.body
    call = next((node for node in _in_the_open(method) if _is_call_of(node, super_)), None)
    if not isinstance(call, ast.Call) or not isinstance(last, ast.Return) or last.value is None:
        raise Unsafe
    if docstring and (len(docstring) > 1 or ast.get_docstring(before, clean=False) is None):
        raise Unsafe
    kinds = ast.Lambda | ast.GeneratorExp | ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom
    if any(isinstance(node, kinds) for node in ast.walk(last.value)):
        raise Unsafe
    _check_arguments(call, method, before)
    here, there = _names([*method.args.args, *method.body]), _names([last.value])
    locals_here = {argument.arg for argument in method.args.args} | here.binds
    if (there.mentions - {argument.arg for argument in before.args.args}) & locals_here:
        raise Unsafe
    value = ast.get_source_segment("\n".join(lines), last.value) or ""
    is_atom = isinstance(last.value, ast.Call | ast.Attribute | ast.Name | ast.Subscript)
    begin, end = first_line(method) - 1, method.end_lineno
    before_call = lines[call.lineno - 1].encode()[: call.col_offset].decode()
    after_call = lines[(call.end_lineno or 0) - 1].encode()[call.end_col_offset :].decode()
    text = f"{before_call}{value if is_atom and chr(10) not in value else f'({value})'}{after_call}"
    return [*lines[begin : call.lineno - 1], *text.split("\n"), *lines[call.end_lineno : end]]


def _check_arguments(call: ast.Call, method: ast.FunctionDef, before: ast.FunctionDef) -> None:
    """Raise Unsafe unless a call passes every parameter of `before` as the name of that parameter."""
    spec = before.args
    parameters = [argument.arg for argument in spec.args]
    special = spec.posonlyargs or spec.kwonlyargs or spec.vararg or spec.kwarg
    if special or not parameters or [argument.arg for argument in method.args.args][:1] != parameters[:1]:
        raise Unsafe
    given = dict(zip(parameters[1:], call.args, strict=False))
    given |= {keyword.arg or "": keyword.value for keyword in call.keywords}
    same = [name for name, value in given.items() if isinstance(value, ast.Name) and value.id == name]
    if len(call.args) + len(call.keywords) != len(given) or sorted(same) != sorted(parameters[1:]):
        raise Unsafe
    if method.args.posonlyargs or method.args.kwonlyargs or method.args.vararg or method.args.kwarg:
        raise Unsafe


def _is_call_of(node: ast.AST, function: ast.AST) -> bool:
    return isinstance(node, ast.Call) and node.func is function


def _in_the_open(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions, classes and comprehensions inside it.

    Those of f-strings are left out: Python 3.11 does not know where they stand.
    """
    for child in ast.iter_child_nodes(node):
        yield child
        scopes = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.JoinedStr
        if not isinstance(child, scopes | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            yield from _in_the_open(child)


def _names(nodes: Sequence[ast.AST]) -> Names:
    names = Names()
    for node in nodes:
        names.visit(node)
    return names


def first_line(node: ast.stmt) -> int:
    """The number of the line on which a statement or its first decorator begins."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def above(lines: Sequence[str], index: int) -> int:
    """The index of the first of the blank lines and comments right above a line."""
    while index and is_comment(lines[index - 1]):
        index -= 1
    return index


def is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def require_own_lines(node: ast.stmt, lines: Sequence[str]) -> None:
    """Raise Unsafe if a statement shares a line with another one."""
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    after = lines[(node.end_lineno or 0) - 1].encode()[node.end_col_offset :].decode()
    if before.strip() or not is_comment(after):
        raise Unsafe
