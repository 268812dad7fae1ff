"""The size of a program, to tell whether another one is simpler: tokens of code, however they are laid out.

Tokens are counted in the syntax tree and not in the text. Statements that are packed into something else cost at least
as much as before: into a tuple, a call, a lambda, `:=`, `and`, or several imports on one line.
"""

import ast
from functools import lru_cache

from pytest_autoresearch.programs.compare import literal, without_docstrings

NUMBER_CHARACTERS, NAME_CHARACTERS = 32, 64
"""How many characters of a number or a name are one token. Of a string each byte is one: even a compressed program in
a string costs more than the program."""
RUNS_TEXT = frozenset(
    {"exec", "eval", "compile", "builtins", "__builtins__", "__import__", "import_module", "exec_module", "runpy"}
    | {"CompilationUnit", "FunctionType", "CodeType", "InteractiveInterpreter", "marshal", "pickle"}
    | {"timeit", "cProfile", "bdb", "pdb", "doctest"}
    | {"__doc__", "__file__", "getsource", "getdoc", "getcomments", "linecache", "get_source", "get_data"}
    | {"argv", "orig_argv", "open", "read_text", "read_bytes"}  # comments are not counted, but stand in the file
)
"""Names by which a program may run code, or read text, that is not counted."""
_METHODS = frozenset({"eval", "compile"})
"""Those of RUNS_TEXT that are harmless behind a dot: `model.eval()`, `torch.compile(model)`."""
_FREE = (
    *(ast.Module, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Name, ast.Constant),
    *(ast.arguments, ast.arg, ast.keyword, ast.alias, ast.withitem),
)
"""Nodes without a token of their own. Their names, values and parts count."""
_ANNOTATION = (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.expr_context, ast.operator)


def compare_sizes(program: str, baseline: str) -> tuple[bool, str]:
    """Whether a program is simpler than the baseline, and in words how they compare. Raises the errors of `ast.parse`.

    A program that runs or reads text more often than the baseline does is not simpler, however short it is.
    """
    before = runs_text(baseline)
    for name, times in runs_text(program).items():
        if times > before.get(name, 0):
            return False, f"`{name}` may run or read code that is not counted"
    tokens, limit = code_tokens(program), code_tokens(baseline)
    return tokens < limit, f"{tokens:,} tokens of code, the baseline has {limit:,}"


@lru_cache(maxsize=16)
def code_tokens(source: str) -> int:
    """The number of tokens of code: names, literals, operations and statements. Strings count by their length.

    Layout, comments, docstrings and plain annotations do not count, and neither does how long a name is. Raises the
    errors of `ast.parse`.
    """
    count = 0
    todo: list[object] = [without_docstrings(source)]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, str):
            count += 1 + len(item) // NAME_CHARACTERS
        elif isinstance(item, ast.Constant):
            count += _literal_tokens(item.value)
        elif isinstance(item, ast.AST):
            count += 0 if isinstance(item, _FREE) else _own_tokens(item)
            annotation = getattr(item, "annotation", getattr(item, "returns", None))
            todo += [value for _, value in ast.iter_fields(item) if value is not annotation or not _is_plain(value)]
    return count


def runs_text(source: str) -> dict[str, int]:
    """How often a program uses each name of RUNS_TEXT, strings included. Raises the errors of `ast.parse`."""
    found: dict[str, int] = {}
    for node in ast.walk(without_docstrings(source)):
        texts = [value for field, value in ast.iter_fields(node) if isinstance(value, str) and field != "kind"]
        for name in [part for text in texts for part in text.split(".")]:
            if name in RUNS_TEXT and not (isinstance(node, ast.Attribute) and name in _METHODS):
                found[name] = found.get(name, 0) + 1
    return found


def _own_tokens(node: ast.AST) -> int:
    """The tokens of a node itself, without its parts."""
    match node:
        case ast.Tuple() | ast.List() | ast.Set():
            return max(1, len(node.elts))  # a separator for each
        case ast.Dict():
            return max(1, 2 * len(node.keys))
        case ast.Call():
            return max(1, len(node.args) + len(node.keywords))
        case ast.Assign() | ast.Delete():
            return len(node.targets)
        case ast.Import() | ast.Global() | ast.Nonlocal():
            return len(node.names)
        case ast.ImportFrom():
            return 2 * len(node.names) - 1  # as if each name had a line of its own; the module is a part
        case ast.With() | ast.AsyncWith():
            return len(node.items)
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.Compare():
            return len(node.ops)
        case ast.NamedExpr() | ast.IfExp():
            return 2  # an assignment and a use of its name; an `if` and a second statement
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return 1 + len(node.decorator_list)
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.Assert():
            return 1 + bool(node.msg)
        case ast.Raise():
            return 1 + bool(node.cause)
    return 1


def _literal_tokens(value: object) -> int:
    if isinstance(value, str | bytes):
        data = value.encode(errors="surrogatepass") if isinstance(value, str) else value
        return 1 + len(data)
    return 1 + len(literal(value)) // NUMBER_CHARACTERS


def _is_plain(annotation: object) -> bool:
    """Whether an annotation only names a type, so that it can hold no code."""
    return isinstance(annotation, ast.AST) and all(
        isinstance(node, _ANNOTATION) or (isinstance(node, ast.Constant) and node.value in (None, ...))
        for node in ast.walk(annotation)
    )
