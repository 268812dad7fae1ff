"""The constants of a program or overlay: read without running it, and rewritten as text."""

import ast
import re
from collections.abc import Collection, Mapping

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.programs.arithmetic import NotArithmetic, Value, compute, same_value
from pytest_autoresearch.programs.splice import DIRECTIVES, splice
from pytest_autoresearch.programs.statements import parse, pieces_of

_SPELLED = re.compile(r"([^\W\d]\w*)=(\S+?)(?=:?(?:\s|$))")
_WORD = re.compile(r"[^\W\d]\w*")


def is_constant_name(name: str) -> bool:
    """Whether a name is written as a constant, as in LEARNING_RATE."""
    return name.isidentifier() and name.isupper()


def constants_of(source: str) -> dict[str, Value]:
    """The top-level UPPERCASE names whose value is a literal, or arithmetic over literals and earlier constants.

    Other names are left out. The last binding of a name counts. Raises the errors of `parse`.
    """
    constants: dict[str, Value] = {}
    for piece in pieces_of(source):
        value: tuple[Value, ...] = ()
        names: list[str] = []
        match piece.node:
            case ast.Assign(targets=targets, value=expression):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                value = _computed(expression, constants)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as expression):
                names = [name]
                value = _computed(expression, constants)
            case ast.AnnAssign(value=None):
                continue  # only an annotation
        for name in piece.names.binds:
            constants.pop(name, None)
        if value:
            constants |= {name: value[0] for name in names if is_constant_name(name) and name not in DIRECTIVES}
    return constants


def computed_from(source: str, keys: Collection[str]) -> dict[str, str]:
    """The constants that follow a key, directly or through others, and how each is computed: `4 * WIDTH`.

    The last binding of a name counts. Raises the errors of `parse`.
    """
    found: dict[str, str] = {}
    for piece in pieces_of(source):
        follows = not piece.names.mentions.isdisjoint({*keys, *found})
        for name in piece.names.binds:
            found.pop(name, None)
        match piece.node:
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) if follows:
                found |= {name: ast.unparse(value) for name in piece.names.binds - {*keys} if is_constant_name(name)}
    return found


def _computed(node: ast.expr, constants: Mapping[str, Value]) -> tuple[Value, ...]:
    """The value, as a tuple of one; () if it is not arithmetic."""
    try:
        return (compute(node, constants),)
    except (NotArithmetic, ArithmeticError, TypeError):
        return ()


def with_constants(source: str, values: Mapping[str, Value]) -> str:
    """A program, or the text of an overlay, with these constants. Comments and annotations stay.

    A constant that has its value already is left as it is written. One that is not bound goes above the first statement
    that mentions it, or to the end. Raises the errors of `parse`.
    """
    changed = different(values, constants_of(source))
    annotations: dict[str, str] = {}
    for piece in pieces_of(source):
        annotations |= dict.fromkeys(piece.names.binds, "")
        match piece.node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                annotations[name] = f": {ast.unparse(annotation)}"
    lines = [f"{name}{annotations.get(name, '')} = {written(value)}\n" for name, value in changed.items()]
    return splice(source, "".join(["from baseline import *\n", *lines]))


def different(values: Mapping[str, Value], constants: Mapping[str, Value]) -> dict[str, Value]:
    """The values that differ from those of `constants`, or that are not there."""
    return {
        name: value for name, value in values.items() if name not in constants or not same_value(value, constants[name])
    }


def written(value: Value) -> str:
    """The value as Python source, in the shortest form that reads back equal; strings in double quotes."""
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and text[0] == "'" and '"' not in text else text


def spell(values: Mapping[str, Value]) -> str:
    """Constants in one line, `LEARNING_RATE=0.002 BATCH_SIZE=16`. A space inside a string is written as an escape."""
    return " ".join(f"{name}={written(value)}".replace(" ", r"\x20") for name, value in values.items())


def spelled_in(description: str) -> dict[str, str]:
    """What `spell` has put at the beginning of a description, as text: `LEARNING_RATE=0.002 BATCH_SIZE=16: Rates.`"""
    found: dict[str, str] = {}
    at = 0
    while (match := _SPELLED.match(description, at)) and match[1].isupper():
        found[match[1]] = match[2]
        at = match.end() + 1
        if description[match.end() : at] != " ":
            break
    return found


def read_setting(text: str) -> tuple[str, Value]:
    """The parts of `LEARNING_RATE=0.002`. Arithmetic is computed; a bare word is a string, for shells take quotes away.

    UsageError: it is no such setting.
    """
    name, equals, expression = text.partition("=")
    name, expression = name.strip(), expression.strip()
    problem = UsageError(
        f"`{one_line(text)}`: must be NAME=VALUE, with an UPPERCASE name and a number, a string, True, False or None"
    )
    if not (equals and is_constant_name(name)):
        raise problem
    if _WORD.fullmatch(expression) and expression not in ("True", "False", "None"):
        return name, expression
    try:
        match parse(f"({expression}\n)").body:
            case [ast.Expr(value=node)]:
                return name, compute(node, {})
    except (SyntaxError, ValueError, RecursionError, MemoryError, NotArithmetic, ArithmeticError, TypeError):
        pass
    raise problem from None
