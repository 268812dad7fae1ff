"""An experiment, one file under `experiments/` read as text; and the program that runs for it."""

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import name_of, one_line, read_source
from pytest_autoresearch.programs.compare import code_sha, literal, sha256
from pytest_autoresearch.programs.spelling import did_you_mean, unknown_names
from pytest_autoresearch.programs.splice import DIRECTIVES, is_overlay_line, splice
from pytest_autoresearch.programs.statements import DEPTH, Piece, parse, pieces_of, unix, without

SOURCE_BYTES, LITERAL_CHARACTERS = 64_000, 10_000
"""The most bytes of source that an experiment may have, and the most characters in its strings and numbers together.

An experiment is an idea, not a place for weights or text.
"""
BASELINE_BYTES = 1_000_000
"""The most bytes of a baseline, which grows with each promotion."""


@dataclass(frozen=True)
class Program:
    """The complete Python source that runs."""

    source: str

    @cached_property
    def sha(self) -> str:
        """The identity of the text."""
        return sha256(self.source)

    @cached_property
    def code_sha(self) -> str:
        """The identity of the code, without layout, comments and docstrings."""
        return code_sha(self.source)


@dataclass(frozen=True)
class Experiment:
    """One file under `experiments/`.

    `name` is its path there without `.py`, `description` the first line of its docstring, `track` its TRACK.
    `simplifies`: its GOAL is "simplify", so it must be shorter than the baseline and need not score better.
    `constants`: the point of a sweep that it is, spelled; "" for one that stands in its file as it is.
    """

    name: str
    path: Path
    source: str
    description: str
    is_overlay: bool
    track: str | None
    simplifies: bool = False
    constants: str = ""

    @cached_property
    def sha(self) -> str:
        """The identity of the text."""
        return sha256(self.source)

    def program(self, baseline_source: str, baseline_path: Path | str) -> Program:
        """The program that runs: the experiment itself, or the baseline with the overlay applied.

        UsageError if an overlay binds a name that nothing uses, or if the program would define no `train`.
        """
        if not self.is_overlay:
            return Program(without(self.source, DIRECTIVES))
        with parse_errors(baseline_path):
            base = pieces_of(baseline_source)
        with parse_errors(self.path):
            if not _binds("train", (*base, *pieces_of(self.source))):
                raise UsageError(f"{baseline_path}: defines no `train`, and neither does {self.path}; a program must")
            for name, line in unknown_names(baseline_source, self.source).items():
                known = {other for piece in base for other in piece.names.binds}
                problem = f"{baseline_path} has no such name, and nothing uses it"
                problem = "; ".join(filter(None, (problem, did_you_mean(name, known))))
                raise UsageError(f"{self.path}:{line}: `{name}`: {problem}")
        with parse_errors(f"{self.path}, applied to {baseline_path}"):  # the error names a line of the program
            return Program(splice(baseline_source, self.source))


def read_experiment(path: Path, root: Path) -> Experiment:
    """Read one file of the experiments folder `root`. UsageError says in one line why it is not an experiment."""
    with parse_errors(path):
        return parse_experiment(path, root, unix(read_source(path, SOURCE_BYTES)))


def description_of(source: str) -> str:
    """The first line of the docstring of a file that may be no experiment; "" if it has none or cannot be parsed."""
    try:
        with parse_errors(""):
            return _first_line(pieces_of(unix(source))[0].docstring or "")
    except UsageError:
        return ""


def parse_experiment(path: Path, root: Path, source: str) -> Experiment:
    """The experiment with this source, which need not be on disk. Also raises the errors of `parse`."""
    *pieces, _ = pieces_of(source)
    tree = parse(source)
    if not pieces:
        raise UsageError(
            f"{path}: empty; write a program that defines `train`, or `from baseline import *` and a change"
        )
    literals = sum(len(literal(node.value)) for node in ast.walk(tree) if isinstance(node, ast.Constant))
    if literals > LITERAL_CHARACTERS:  # docstrings count: a program can read its own
        raise UsageError(f"{path}: {literals} characters of literals; an experiment has at most {LITERAL_CHARACTERS}")
    is_overlay = any(is_overlay_line(node) for node in tree.body)
    for node in ast.walk(tree):
        if _imports_baseline(node) and not (node in tree.body and is_overlay_line(node)):
            line = getattr(node, "lineno", 1)
            raise UsageError(f"{path}:{line}: `{ast.unparse(node)}`: write `from baseline import *`, at top level")
    if not is_overlay and not _binds("train", pieces):
        raise UsageError(f"{path}: neither a program (it defines no `train`) nor an overlay (`from baseline import *`)")
    goal = _directive("GOAL", "simplify", pieces, path)
    if goal not in (None, "simplify"):
        raise UsageError(
            f'{path}: GOAL = {goal!r}: must be "simplify"; without GOAL an experiment is to beat the baseline'
        )
    for name in ("CONSTRAINTS", "VARY"):  # as a directive it is left out of the program, so a constant would be lost
        for piece in pieces:
            if name in piece.names.binds and not _binds("SEARCH_SPACE", pieces):
                raise UsageError(
                    f"{path}:{piece.node.lineno}: {name} without SEARCH_SPACE; write one, or rename {name}"
                )
    name = name_of(path, root)
    return Experiment(
        name=name,
        path=path,
        source=source,
        description=_first_line(pieces[0].docstring or "") or name,
        is_overlay=is_overlay,
        track=_directive("TRACK", "cpu", pieces, path),
        simplifies=goal is not None,
    )


@contextmanager
def parse_errors(path: Path | str) -> Iterator[None]:
    """Turn the errors of parsing the source at `path` into a UsageError, with the line of source as its detail."""
    try:
        yield
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno or 1}: {one_line(error.msg)}", _marked(error)) from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{path}: cannot be parsed: nested too deeply; at most {DEPTH} levels are allowed") from None
    except ValueError as error:
        raise UsageError(f"{path}: cannot be parsed: {one_line(str(error))}") from None


def _marked(error: SyntaxError, width: int = 100) -> str:
    """The line of source that an error is about, or a part of it, with a caret below the fault."""
    line = (error.text or "").partition("\n")[0].replace("\t", " ").rstrip()
    if not line or not error.offset:
        return ""
    fault = min(error.offset - 1, len(line))
    start = max(len(line) - len(line.lstrip()), fault - width + 10)
    return f"{line[start : start + width]}\n{' ' * max(0, fault - start)}^"


def _directive(name: str, example: str, pieces: Iterable[Piece], path: Path) -> str | None:
    """The value of a directive; None if the experiment does not set it. UsageError if it is not a literal string."""
    value = None
    for piece in pieces:
        if name in piece.names.binds:
            match piece.node:
                case (
                    ast.Assign(targets=[ast.Name()], value=ast.Constant(value=str(text)))
                    | ast.AnnAssign(value=ast.Constant(value=str(text)))
                ) if text.strip():
                    value = text
                    continue
            line = piece.code.partition("\n")[0]
            raise UsageError(
                f'{path}:{piece.node.lineno}: `{line}`: must be a literal string, as in {name} = "{example}"'
            )
    return value


def _first_line(docstring: str) -> str:
    """The first line; characters that do not print are escaped, for they would break the lines of the ledger."""
    return one_line(docstring.strip().partition("\n")[0])


def _binds(name: str, pieces: Iterable[Piece]) -> bool:
    return any(name in piece.names.binds for piece in pieces)


def _imports_baseline(node: ast.AST) -> bool:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        modules = [node.module or ""]
    return any(module.partition(".")[0] == "baseline" for module in modules)
