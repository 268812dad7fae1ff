"""Find programs that choose their own random numbers."""

import ast

from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.programs.statements import parse, unix

SEEDERS = frozenset(
    {"manual_seed", "manual_seed_all", "seed", "default_rng", "RandomState", "Random", "PCG64", "Philox", "MT19937"}
)
"""Functions and classes of torch, NumPy and the standard library that seed random numbers."""
CALL_LENGTH = 80
"""Characters of a call that a message quotes."""


def find_fixed_seed(source: str) -> tuple[int, str] | None:
    """The line and the text of a call that seeds random numbers from constants or without arguments, if there is one.

    A program that chooses its seed can choose the one that scores best. Raises the errors of `parse`.
    """
    source = unix(source)
    calls = [node for node in ast.walk(parse(source)) if isinstance(node, ast.Call) and _fixes_seed(node)]
    if not calls:
        return None
    first = min(calls, key=lambda call: (call.lineno, call.col_offset))
    text = one_line(ast.get_source_segment(source, first) or "")
    return first.lineno, text if len(text) <= CALL_LENGTH else f"{text[: CALL_LENGTH - 1]}…"


def _fixes_seed(call: ast.Call) -> bool:
    function = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
    arguments = [part for argument in (*call.args, *call.keywords) for part in ast.walk(argument)]
    names = [part.id for part in arguments if isinstance(part, ast.Name)]
    match call.func:
        case ast.Attribute(value=ast.Name(id="self" | "cls")) if not arguments:
            return False  # a method of the program's own class
    return function in SEEDERS and all(name.isupper() for name in names)
