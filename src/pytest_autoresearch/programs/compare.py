"""Comparing programs: identity, patches and counts of lines."""

import ast
import difflib
import hashlib
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from pytest_autoresearch.programs.statements import unix

_READS_ITSELF = re.compile(
    r"__doc__|__file__|__code__|__dict__|\bco_|lineno|getdoc|getsource|findsource|getcomments|globals\(|vars\(|argv"
    r"|linecache|tokenize|traceback|pydoc|_getframe|get_source|__globals__|\bopen\(|read_text|read_bytes|/proc"
)


def sha256(text: str) -> str:
    """The identity of a text: the SHA-256 of its UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def code_sha(source: str) -> str:
    """The identity of a program's code, without layout, comments and docstrings. The same in all versions of Python.

    If the program may read its own text, or is not valid Python, this is the hash of the text instead.
    """
    if reads_itself(source):
        return sha256(source)
    try:
        tree = without_docstrings(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return sha256(source)
    return sha256("\n".join(_tokens(tree)))


def reads_itself(source: str) -> bool:
    """Whether a program may read its own text, line numbers or names."""
    return bool(_READS_ITSELF.search(source))


def same_program(a: str, b: str) -> bool:
    """Whether two sources have the same code, by `code_sha`."""
    return a == b or code_sha(a) == code_sha(b)


def without_docstrings(source: str) -> ast.Module:
    """A new syntax tree without the statements that are only a string. Raises the errors of `ast.parse`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(unix(source))
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body:
                empty = [] if isinstance(node, ast.Module) else [ast.Pass()]
                setattr(node, name, [statement for statement in body if not _is_string(statement)] or empty)
    return tree


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _tokens(tree: ast.AST) -> Iterator[str]:
    """The nodes and constants of a tree, top down. Unlike `ast.dump`: without recursion and without empty fields."""
    todo: list[object] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.AST):
            fields = {name: value for name, value in ast.iter_fields(item) if value is not None and value != []}
            yield f"{type(item).__name__}({', '.join(fields)})"
            if isinstance(item, ast.JoinedStr):  # Python 3.12 adds empty parts to some
                fields = {"values": [part for part in item.values if getattr(part, "value", None) != ""]}
            todo += reversed(fields.values())
        elif isinstance(item, list):
            yield f"[{len(item)}]"
            todo += reversed(item)
        else:
            yield f"{type(item).__name__} {literal(item)}"


def literal(value: object) -> str:
    """A constant as text. Integers in hexadecimal: Python refuses to write very long ones in decimal."""
    return hex(value) if isinstance(value, int) else repr(value)


def unified_diff(baseline: str, program: str, baseline_name: str = "baseline", program_name: str = "program") -> str:
    """The change from baseline to program as a patch; "" if there is none."""
    old, new = (unix(source).removesuffix("\n").split("\n") for source in (baseline, program))
    lines = difflib.unified_diff(old, new, baseline_name, program_name, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def line_counts(baseline: str, program: str) -> tuple[int, int]:
    """How many lines a patch from baseline to program adds and removes."""
    lines = unified_diff(baseline, program).split("\n")[2:]  # without the two lines of the header
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)
