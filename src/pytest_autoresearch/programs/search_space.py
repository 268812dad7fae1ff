"""Search spaces: SEARCH_SPACE, CONSTRAINTS and VARY of an experiment, read from its text without running it."""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import cut, one_line, read_source
from pytest_autoresearch.programs.arithmetic import (
    NotArithmetic,
    Value,
    compute,
    names_of_condition,
    shortfall,
)
from pytest_autoresearch.programs.constants import computed_from, is_constant_name, written
from pytest_autoresearch.programs.experiment import SOURCE_BYTES, parse_errors
from pytest_autoresearch.programs.ranges import Choices, Range, exact
from pytest_autoresearch.programs.spelling import did_you_mean
from pytest_autoresearch.programs.splice import DIRECTIVES, SEARCH_DIRECTIVES
from pytest_autoresearch.programs.statements import Piece, parse, pieces_of, without

ALLOWED = "`log(low, high)`, `(low, high)`, `(low, high, step)` or `[choice, …]`"
OPERATORS = "+ - * / // % ** min max abs < <= > >= == != and or not"
STRING, CONSTRAINTS = 100, 100
"""The most characters of a string, which stand in every line and table, and the most constraints."""
EXAMPLE = 'SEARCH_SPACE = {"LEARNING_RATE": log(1e-3, 1e-2), "BATCH_SIZE": [8, 16]}'


@dataclass(frozen=True)
class SearchSpace:
    """The values that a sweep may give to constants.

    `constraints` are conditions on keys and constants. `vary`: the sampler `random` changes that many keys, from the
    first number to the second. `lines` says where in the file a key or a constraint stands.
    """

    keys: Mapping[str, Range | Choices]
    constraints: tuple[str, ...] = ()
    vary: tuple[int, int] | None = None
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def contains(self, values: Mapping[str, Value]) -> bool:
        """Whether each key has a value, and one of its own."""
        return all(name in values and values[name] in allowed for name, allowed in self.keys.items())

    def violations(self, values: Mapping[str, Value], constants: Mapping[str, Value]) -> dict[str, float]:
        """The constraints that are not met, and by how much: `a - b` for `a <= b`, 1 where no amount makes sense."""
        names = {**constants, **values}
        unmet = {}
        for constraint in self.constraints:
            try:
                amount = shortfall(_condition(constraint), names)
            except (TypeError, NotArithmetic):  # a choice of another type, or an unknown name: see `check_keys`
                amount = 1.0
            if amount > 0:
                unmet[constraint] = amount
        return unmet


def has_search_space(source: str) -> bool:
    """Whether a source binds SEARCH_SPACE. It is parsed only if the word is there; False if it cannot be parsed."""
    if not re.search(r"\bSEARCH_SPACE\b", source):
        return False
    try:
        return any("SEARCH_SPACE" in piece.names.writes for piece in pieces_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # as an experiment it says why


def is_sweep_file(path: Path) -> bool:
    """Whether a file has a search space; False if it cannot be read."""
    try:
        return has_search_space(read_source(path, SOURCE_BYTES))
    except UsageError:
        return False  # as an experiment it says why


def without_search_space(source: str) -> str:
    """The source without SEARCH_SPACE, CONSTRAINTS, VARY and the comments directly above them. Errors of `parse`."""
    return without(source, SEARCH_DIRECTIVES)


# -- reading --


def read_search_space(path: Path, source: str) -> SearchSpace:
    """The search space of an experiment. UsageError names file and line, what was found and what is allowed."""
    with parse_errors(path):
        reader = _Reader(path, source)
        return reader.search_space()


class _Reader:
    """Reads the three statements of one file."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.values: dict[str, ast.expr] = {}
        self.lines: dict[str, int] = {}
        for piece in pieces_of(source):
            for name in sorted(piece.names.writes & SEARCH_DIRECTIVES):
                self._add(name, piece)

    def _add(self, name: str, piece: Piece) -> None:
        if name in self.values:
            raise self.error(piece.node, f"{name} is bound twice; once is allowed")
        match piece.node:
            case (
                ast.Assign(targets=[ast.Name()], value=value)
                | ast.AnnAssign(target=ast.Name(), value=ast.expr() as value)
            ):
                self.values[name] = value
            case _:
                line = one_line(piece.code.partition("\n")[0])
                raise self.error(piece.node, f"`{line}`: {name} must be written out, as in {EXAMPLE}")

    def error(self, node: ast.AST, problem: str) -> UsageError:
        return UsageError(f"{self.path}:{getattr(node, 'lineno', 1)}: {problem}")

    def search_space(self) -> SearchSpace:
        if "SEARCH_SPACE" not in self.values:
            for name, value in self.values.items():
                raise self.error(value, f"{name} without SEARCH_SPACE; write {EXAMPLE}, or use another name")
            raise UsageError(f"{self.path}: no SEARCH_SPACE; write {EXAMPLE}")
        keys = dict(self._keys(self.values["SEARCH_SPACE"]))
        return SearchSpace(keys, tuple(self._constraints()), self._vary(len(keys)), self.lines)

    def _keys(self, node: ast.expr) -> Iterator[tuple[str, Range | Choices]]:
        if not isinstance(node, ast.Dict):
            raise self.error(
                node, f"SEARCH_SPACE: `{_text(node)}`: must be a dictionary that is written out: {EXAMPLE}"
            )
        if not node.keys:
            raise self.error(node, f"SEARCH_SPACE is empty; write {EXAMPLE}")
        for key, value in zip(node.keys, node.values, strict=True):
            match key:
                case ast.Constant(value=str(name)) if is_constant_name(name) and name not in DIRECTIVES:
                    if name in self.lines:
                        raise self.error(key, f'SEARCH_SPACE: "{name}" twice; once is allowed')
                    self.lines[name] = key.lineno
                    yield name, self._allowed(name, value)
                case _:
                    found = "**" + _text(value) if key is None else _text(key)
                    raise self.error(
                        key or value, f'SEARCH_SPACE: `{found}`: must be the name of a constant, as in "LEARNING_RATE"'
                    )

    def _allowed(self, name: str, node: ast.expr) -> Range | Choices:
        match node:
            case ast.List(elts=elements):
                return self._choices(name, node, [self._value(name, element) for element in elements])
            case ast.Tuple(elts=[_, _] | [_, _, _] as elements):
                return self._range(name, node, [self._number(name, element) for element in elements])
            case ast.Call(func=ast.Name(id="log"), args=[_, _] as ends, keywords=[]):
                return self._range(name, node, [self._number(name, end) for end in ends], log=True)
        raise self.error(node, f"{name}: `{_text(node)}`: must be {ALLOWED}")

    def _choices(self, name: str, node: ast.expr, values: list[Value]) -> Choices:
        if len(values) < 2:
            raise self.error(node, f"{name}: `{_text(node)}`: at least two choices are needed")
        for number, value in enumerate(values):
            if isinstance(value, str) and len(value) > STRING:
                raise self.error(node, f"{name}: a string of {len(value)} characters; at most {STRING} are allowed")
            if value in values[:number]:  # for a sampler, 1, 1.0 and True are equal
                raise self.error(node, f"{name}: {written(value)} is equal to another choice")
        return Choices(tuple(values))

    def _range(self, name: str, node: ast.expr, numbers: list[float], log: bool = False) -> Range:
        if not all(isinstance(number, int) for number in numbers):
            numbers = [float(number) for number in numbers]
        low, high, *steps = numbers
        found = f"{name}: `{_text(node)}`"
        if low >= high or not math.isfinite(float(high) - float(low)):
            raise self.error(node, f"{found}: the lower end must be below the upper one, at a finite distance")
        if log and low <= 0:
            raise self.error(node, f"{found}: the lower end of a logarithmic range must be above 0")
        if steps and not 0 < exact(steps[0]) <= exact(high) - exact(low):
            raise self.error(node, f"{found}: the step must be above 0, and at most as large as the range")
        return Range(low, high, steps[0] if steps else None, log)

    def _value(self, name: str, node: ast.expr) -> Value:
        try:
            return compute(node, {})
        except (NotArithmetic, ArithmeticError, TypeError):
            allowed = "a number, a string, True, False or None"
            raise self.error(node, f"{name}: `{_text(node)}`: must be {allowed}, written out") from None

    def _number(self, name: str, node: ast.expr) -> float:
        value = self._value(name, node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(node, f"{name}: `{_text(node)}`: must be a number; choices stand in [ ]")
        return value

    def _constraints(self) -> Iterator[str]:
        node = self.values.get("CONSTRAINTS", ast.List(elts=[]))
        if not isinstance(node, ast.List | ast.Tuple):
            raise self.error(node, f"CONSTRAINTS: `{_text(node)}`: must be a list of strings")
        if len(node.elts) > CONSTRAINTS:
            raise self.error(node, f"CONSTRAINTS: {len(node.elts)} constraints; at most {CONSTRAINTS} are allowed")
        for element in node.elts:
            match element:
                case ast.Constant(value=str(text)):
                    self.lines[text] = element.lineno
                    try:
                        names_of_condition(_condition(text))
                    except (SyntaxError, ValueError, RecursionError, MemoryError, NotArithmetic) as error:
                        part = f": `{one_line(str(error))}`" if isinstance(error, NotArithmetic) else ""
                        problem = f"CONSTRAINTS: `{_short(text)}`{part}: must be a comparison over constants, as in"
                        raise self.error(
                            element,
                            f'{problem} "BATCH_SIZE * SEQUENCE_LENGTH <= 4096"; {OPERATORS} are allowed',
                        ) from None
                    yield text
                case _:
                    raise self.error(element, f"CONSTRAINTS: `{_text(element)}`: must be a string")

    def _vary(self, keys: int) -> tuple[int, int] | None:
        node = self.values.get("VARY")
        if node is None:
            return None
        match node:
            case ast.Constant(value=int(low)):
                high = low
            case ast.Tuple(elts=[ast.Constant(value=int(low)), ast.Constant(value=int(high))]):
                pass
            case _:
                low = high = 0
        if isinstance(low, bool) or isinstance(high, bool) or not 1 <= low <= high <= keys:
            allowed = f"one number, or two, (fewest, most), from 1 to {keys}: so many keys has SEARCH_SPACE"
            raise self.error(node, f"VARY = {_text(node)}: must be {allowed}")
        return low, high


@lru_cache(maxsize=256)
def _condition(text: str) -> ast.expr:
    """The syntax tree of a constraint. Raises the errors of `parse`."""
    match parse(f"({text}\n)").body:
        case [ast.Expr(value=node)]:
            return node
    raise SyntaxError("must be one expression")


def _text(node: ast.AST) -> str:
    return _short(ast.unparse(node))


def _short(text: str) -> str:
    return cut(one_line(text), 60)


# -- what a space says about a program --


def check_keys(space: SearchSpace, constants: Mapping[str, Value], path: Path, baseline_path: Path | str) -> None:
    """UsageError: a key, or a name in a constraint, is no constant of the program; or a constraint compares what cannot
    be compared. `constants` are those of the program without the sweep's values."""
    for key in space.keys:
        if key not in constants:
            problem = f"SEARCH_SPACE: `{key}`: {baseline_path} has no such constant with a value that is written out"
            raise UsageError(f"{path}:{space.lines.get(key, 1)}: {problem}; {_hint(key, constants)}")
    for constraint in space.constraints:
        where = f"{path}:{space.lines.get(constraint, 1)}: CONSTRAINTS: `{_short(constraint)}`"
        for name in sorted(names_of_condition(_condition(constraint)) - constants.keys()):
            raise UsageError(
                f"{where}: `{name}` is neither a key nor a constant of {baseline_path}; {_hint(name, constants)}"
            )
        try:
            shortfall(_condition(constraint), {**constants, **{key: allowed[0] for key, allowed in space.keys.items()}})
        except TypeError as error:
            raise UsageError(f"{where}: {one_line(str(error))}; strings can be compared with == and != only") from None


def check_computed(space: SearchSpace, source: str, path: Path) -> None:
    """UsageError: a constraint names a constant that the program computes from a key. It would have its old value."""
    computed = computed_from(source, space.keys)
    for constraint in space.constraints:
        for name in sorted(names_of_condition(_condition(constraint)) & computed.keys()):
            raise UsageError(
                f"{path}:{space.lines.get(constraint, 1)}: CONSTRAINTS: `{_short(constraint)}`: `{name}` changes with "
                f"the keys; write what it is computed from, ({_short(computed[name])}), in its place"
            )


def _hint(name: str, known: Mapping[str, Value]) -> str:
    return did_you_mean(name, known) or f"there is: {', '.join(sorted(known)) or 'none'}"
