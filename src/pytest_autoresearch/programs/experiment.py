"""An experiment: one file under `experiments/`, read as text, and the program that it makes of the baseline."""

import ast
import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.splice import is_overlay_line, splice
from pytest_autoresearch.programs.statements import Piece, parse, pieces_of, unix

SOURCE_BYTES, LITERAL_CHARACTERS = 64_000, 10_000
"""An experiment is an idea, not a place for weights or text: a longer file is refused, and so are longer literals,
strings and numbers together."""


def sha256(text: str) -> str:
    """The name of a source: the hash of its text."""
    return hashlib.sha256(text.encode()).hexdigest()


# -- reading --


@dataclass(frozen=True)
class Program:
    """The complete Python source that runs."""

    source: str

    @property
    def sha(self) -> str:
        return sha256(self.source)

    @property
    def code_sha(self) -> str:
        return sha256(ast.dump(parse(unix(self.source))))


@dataclass(frozen=True)
class Experiment:
    """One file under `experiments/`. `name` is its path there without `.py`; `track` is its TRACK, if it has one.

    `simplifies`: its GOAL is to simplify, so it need not be better than the baseline, but shorter and hardly worse.
    """

    name: str
    path: Path
    source: str
    description: str
    is_overlay: bool
    track: str | None
    simplifies: bool = False

    @property
    def sha(self) -> str:
        return sha256(self.source)

    def program(self, baseline_source: str, baseline_path: Path | str) -> Program:
        """What runs: the experiment itself, or the baseline with it applied. UsageError where there is no `train`."""
        if not self.is_overlay:
            return Program(self.source)
        _checked(baseline_source, baseline_path)
        program = Program(splice(baseline_source, self.source))
        if not _binds("train", pieces_of(program.source)):
            raise UsageError(f"{baseline_path}: defines no `train`, and neither does {self.path}; a program must")
        return program


def read_experiment(path: Path, root: Path) -> Experiment:
    """Read one file of the experiments folder `root`. UsageError says in one line why it can be no experiment."""
    try:
        source = unix(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from None
    if (size := len(source.encode())) > SOURCE_BYTES:
        raise UsageError(f"{path}: {size} bytes of source; an experiment has at most {SOURCE_BYTES}")
    *pieces, _ = _checked(source, path)
    if not pieces:
        raise UsageError(
            f"{path}: empty; write a program that defines `train`, or `from baseline import *` and a change"
        )
    if (literals := _literal_characters(pieces)) > LITERAL_CHARACTERS:
        raise UsageError(f"{path}: {literals} characters of literals; an experiment has at most {LITERAL_CHARACTERS}")
    is_overlay = any(is_overlay_line(piece.node) for piece in pieces)
    for node in chain.from_iterable(ast.walk(piece.node) for piece in pieces if not is_overlay_line(piece.node)):
        if isinstance(node, ast.Import | ast.ImportFrom) and _imports_baseline(node):
            raise UsageError(
                f"{path}:{node.lineno}: `{ast.unparse(node)}`: write `from baseline import *`, at top level"
            )
    if not is_overlay and not _binds("train", pieces):
        raise UsageError(f"{path}: neither a program (it defines no `train`) nor an overlay (`from baseline import *`)")

    name = path.relative_to(root).with_suffix("").as_posix()
    # What does not print (a tab, a control character, half a surrogate pair) would break the ledger's lines.
    printable = "".join(c if c.isprintable() else " " for c in (pieces[0].string or "").strip().partition("\n")[0])
    goal = _spoken("GOAL", "simplify", pieces, path)
    if goal not in (None, "simplify"):
        raise UsageError(
            f'{path}: GOAL = {goal!r}: must be "simplify"; without GOAL an experiment is to beat the baseline'
        )
    description = " ".join(printable.split()) or name
    track = _spoken("TRACK", "cpu", pieces, path)
    return Experiment(name, path, source, description, is_overlay, track, simplifies=goal is not None)


def _literal_characters(pieces: list["Piece"]) -> int:
    """How long all numbers and strings are together, docstrings too, for a program can read its own."""
    nodes = (node for piece in pieces for node in ast.walk(piece.node))
    return sum(len(repr(node.value)) for node in nodes if isinstance(node, ast.Constant))


def _spoken(name: str, example: str, pieces: list["Piece"], path: Path) -> str | None:
    """The value of a name that speaks to the plugin, a literal string."""
    spoken = None
    for piece in pieces:
        if name in piece.names.binds:
            node = piece.node
            plain = isinstance(node, ast.AnnAssign) or (isinstance(node, ast.Assign) and len(node.targets) == 1)
            value = getattr(node, "value", None)
            if not (plain and isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.strip()):
                found = piece.code.partition("\n")[0]
                raise UsageError(
                    f'{path}:{node.lineno}: `{found}`: must be a literal string, as in {name} = "{example}"'
                )
            spoken = value.value
    return spoken


def _checked(source: str, path: Path | str) -> list["Piece"]:
    """The pieces of what a user wrote. UsageError where it is not Python."""
    try:
        if "\0" in source:  # Python 3.11 has another exception for it, and no line
            line = source.count("\n", 0, source.index("\0")) + 1
            raise SyntaxError("source code cannot contain null bytes", (None, line, None, None))
        return pieces_of(source)
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno or 1}: {' '.join(error.msg.split())}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path}: cannot be parsed: {' '.join(str(error).split()) or 'nested too deeply'}") from None


def _binds(name: str, pieces: Iterable["Piece"]) -> bool:
    return any(name in piece.names.binds for piece in pieces)


def _imports_baseline(node: ast.Import | ast.ImportFrom) -> bool:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return getattr(node, "level", 0) == 0 and any(module.partition(".")[0] == "baseline" for module in modules)


# -- comparing --


def same_program(a: str, b: str) -> bool:
    """Whether two sources are one program: comments and formatting do not matter."""
    return a == b or ast.dump(parse(unix(a))) == ast.dump(parse(unix(b)))


def unified_diff(baseline: str, program: str, baseline_name: str = "baseline", program_name: str = "program") -> str:
    """The change as a patch; empty where there is none."""
    old, new = (unix(source).removesuffix("\n").split("\n") for source in (baseline, program))
    lines = difflib.unified_diff(old, new, baseline_name, program_name, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def code_lines(source: str) -> int:
    """How many lines of code a program has, whatever its comments, docstrings and formatting. RecursionError."""
    tree = parse(unix(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            del node.body[0]
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())


SEEDERS = {
    "manual_seed",
    "manual_seed_all",
    "seed",
    "default_rng",
    "RandomState",
    "Random",
    "PCG64",
    "Philox",
    "MT19937",
}


def find_fixed_seed(source: str) -> str:
    """The first call in a program that seeds random numbers with something fixed, or with nothing; empty without one.

    Whoever may choose the seed can choose the luck.
    """
    for node in ast.walk(parse(unix(source))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            inputs = [
                name for part in (*node.args, *node.keywords) for name in ast.walk(part) if isinstance(name, ast.Name)
            ]
            if name in SEEDERS and all(name.id.isupper() for name in inputs):
                return ast.unparse(node)
    return ""


def line_counts(baseline: str, program: str) -> tuple[int, int]:
    """Lines (added, removed), as a patch counts them."""
    lines = unified_diff(baseline, program).split("\n")[2:]  # without the two header lines
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def nearest(name: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(name, known, 3)
