"""Arithmetic and comparisons, computed on the syntax tree. No code runs, and no number grows without bound."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Value = int | float | str | bool | None
"""What a constant may be."""

BITS = 1024
"""The most bits of an integer. Floats end there, too."""
TINY, HUGE = 1e-9, 1e300
"""The least and the greatest shortfall of a condition that is not met."""

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "abs": abs}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class NotArithmetic(Exception):
    """A part of a source is neither a literal nor arithmetic; the exception's text is that part."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__(ast.unparse(node))


def same_value(a: Value, b: Value) -> bool:
    """Whether two values are the same in a program: 1, 1.0 and True differ."""
    return type(a) is type(b) and a == b


def compute(node: ast.expr, names: Mapping[str, Value]) -> Value:
    """The value of a literal, a name, or arithmetic over them with + - * / // % ** min max abs.

    NotArithmetic: it holds something else, or an unknown name. ArithmeticError: division by zero, or no finite real
    number. TypeError: arithmetic with a string or None.
    """
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return _bounded(value) if isinstance(value, int | float) else value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            number = _number(compute(operand, names))
            return -number if isinstance(node.op, ast.USub) else +number
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            left, right = _number(compute(node.left, names)), _number(compute(node.right, names))
            if isinstance(op, ast.Pow):
                _check_power(left, right)
            return _bounded(_OPERATORS[type(op)](left, right))
        case ast.Call(func=ast.Name(id="min" | "max" | "abs" as name), args=args, keywords=[]) if (
            len(args) == 1 if name == "abs" else len(args) > 1
        ):
            return _FUNCTIONS[name](*(_number(compute(argument, names)) for argument in args))
    raise NotArithmetic(node)


def _number(value: Value) -> int | float:
    if value is None or isinstance(value, str):
        raise TypeError(f"{value!r} is not a number")
    return value


def _bounded(value: object) -> int | float:
    """The number; OverflowError if it is too large, ArithmeticError if it is not real."""
    if isinstance(value, int) and value.bit_length() > BITS:
        raise OverflowError("the number is too large")
    if not isinstance(value, int | float) or not (isinstance(value, int) or math.isfinite(value)):
        raise ArithmeticError("not a finite real number")
    return value


def _check_power(base: float, exponent: float) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > 2 * BITS:
        raise OverflowError("the number is too large")


def names_of_condition(node: ast.expr) -> set[str]:
    """The names in a condition: comparisons of arithmetic, joined by `and`, `or`, `not`. NotArithmetic: it is none."""
    match node:
        case ast.BoolOp(values=parts):
            return set[str]().union(*map(names_of_condition, parts))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return names_of_condition(operand)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            return set[str]().union(*map(_names_of_arithmetic, [left, *others]))
    raise NotArithmetic(node)


def _names_of_arithmetic(node: ast.expr) -> set[str]:
    called = {id(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in called}
    with suppress(ArithmeticError, TypeError):  # these depend on the values
        compute(node, dict.fromkeys(names, 1))
    return names


def shortfall(node: ast.expr, names: Mapping[str, Value]) -> float:
    """By how much a condition is not met, 0 if it is met: `a - b` for `a <= b`; 1 where no amount makes sense.

    What cannot be computed is not met by 1. TypeError: it puts a string or None in order, or computes with it.
    """
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return min(HUGE, sum(shortfall(part, names) for part in parts))
        case ast.BoolOp(values=parts):
            return min(shortfall(part, names) for part in parts)
        case ast.UnaryOp(operand=operand):
            return 0.0 if shortfall(operand, names) else 1.0
        case ast.Compare(left=left, ops=ops, comparators=others):
            try:
                values = [compute(part, names) for part in [left, *others]]
            except ArithmeticError:
                return 1.0
            pairs = zip(values, ops, values[1:], strict=False)
            return min(HUGE, sum(_gap(a, op, b) for a, op, b in pairs))
    raise NotArithmetic(node)


def _gap(a: Value, op: ast.cmpop, b: Value) -> float:
    if _COMPARISONS[type(op)](a, b):
        return 0.0
    if isinstance(op, ast.NotEq) or not (isinstance(a, int | float) and isinstance(b, int | float)):
        return 1.0
    try:
        return min(HUGE, max(TINY, abs(float(a - b))))
    except OverflowError:
        return HUGE
