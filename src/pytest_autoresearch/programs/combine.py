"""Combining: one overlay from several, each applied to what the ones before it have made."""

import ast
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.compare import same_program
from pytest_autoresearch.programs.experiment import Experiment, parse_errors, parse_experiment
from pytest_autoresearch.programs.search_space import has_search_space
from pytest_autoresearch.programs.splice import changes_of, needs_of, splice
from pytest_autoresearch.programs.statements import Piece, pieces_of, unix

LINE = 110
"""The most characters of a description that is made from others."""
_OPENING = re.compile(r"[rRuU]?(\"\"\"|'''|\"|')\s*")


def combine(overlays: Sequence[tuple[Path, str]], baseline: str | None = None) -> str:
    """One overlay that does what several do, given as (path, source). It sets TRACK if one of them does.

    UsageError if one is no overlay or sets GOAL, if they are for different tracks, or if two bind the same name. Also,
    if the source of a `baseline` is given, if the overlays applied to it one after another give another program, in
    more than the order of independent statements: where they compute values from one another's.
    """
    experiments = []
    for path, source in overlays:
        with parse_errors(path):
            experiments.append(parse_experiment(path, path.parent, unix(source)))
    for experiment in experiments:
        if not experiment.is_overlay:
            raise UsageError(f"{experiment.path}: a complete program; only overlays can be combined")
        if experiment.simplifies:
            raise UsageError(f"{experiment.path}: sets GOAL; a combination is to beat the baseline, so leave it out")
        if has_search_space(experiment.source):
            raise UsageError(f"{experiment.path}: a sweep; combine one of its points, or copy it with --from")
    _check_names(experiments)
    track = _track(experiments)
    ideas = " ".join(f"{experiment.description.rstrip('.')}." for experiment in experiments)
    names = " + ".join(experiment.name for experiment in experiments)
    text = overlay(f"{names}: {ideas}", track, *(experiment.source for experiment in experiments))
    if baseline is not None:
        one_by_one = baseline
        for experiment in experiments:
            one_by_one = splice(one_by_one, experiment.source)
        together = splice(baseline, text)
        if not same_program(one_by_one, together) and not _differ_in_order_only(one_by_one, together):
            paths = ", ".join(str(experiment.path) for experiment in experiments)
            raise UsageError(f"{paths}: compute values from one another's; write the combination by hand")
    return text


def overlay(description: str, track: str | None, *changes: str) -> str:
    """The text of an overlay with this docstring, this TRACK if it is not None, and the changes of other overlays."""
    directive = f'\nTRACK = "{track}"\n' if track else ""
    text = f"{docstring(description)}\n\nfrom baseline import *\n{directive}"
    for change in changes:
        text = splice(text, change)
        if last := pieces_of(change)[-1].lead.strip():  # comments at the end, which a splice leaves out
            text += f"\n{last}\n"
    return re.sub(r"^(TRACK = .*\n)(?=.)", r"\1\n", text, count=1, flags=re.MULTILINE)


def title_of(path: Path) -> str:
    """The name of an experiment as the first words of its docstring."""
    return path.stem.replace("_", " ").capitalize()


def docstring(description: str) -> str:
    """A docstring of one line, not longer than LINE. The text may have any characters."""
    return f'"""{_escaped(textwrap.shorten(description, LINE, placeholder=" …"))}"""'


def described(source: str, prefix: str) -> str:
    """The source with `prefix` in front of the first line of its docstring; a new docstring if it has none."""
    source = unix(source)
    first = pieces_of(source)[0]
    opening = _OPENING.match(first.code)
    if first.docstring is None or opening is None:
        return f"{docstring(prefix)}\n\n{source.lstrip()}"
    at = len(first.lead)
    return f"{source[: at + opening.end(1)]}{_escaped(prefix)} {source[at + opening.end() :]}"


def _escaped(text: str) -> str:
    """A text as it stands between quotation marks."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _track(experiments: Sequence[Experiment]) -> str | None:
    """The track that the experiments are for; None if none of them sets TRACK."""
    first = next((experiment for experiment in experiments if experiment.track), None)
    for other in experiments:
        if first and other.track and other.track != first.track:
            raise UsageError(
                f"{first.path}: only for track {first.track}, but {other.path} only for {other.track}; "
                "combine experiments for the same track"
            )
    return first.track if first else None


def _check_names(experiments: Sequence[Experiment]) -> None:
    """UsageError if two experiments bind the same name, unless both import the same object under it."""
    bound: dict[str, tuple[Experiment, int, object]] = {}
    for experiment in experiments:
        for piece in changes_of(experiment.source):
            for name, value in _bindings(piece).items():
                other, line, known = bound.setdefault(name, (experiment, piece.node.lineno, value))
                if other is not experiment and known != value:
                    raise UsageError(
                        f"{other.path}:{line} and {experiment.path}:{piece.node.lineno}: both bind `{name}`; "
                        "only experiments that bind different names can be combined"
                    )


def _differ_in_order_only(a: str, b: str) -> bool:
    """Whether two programs have the same statements, and in the same order where one needs or writes what the other
    one writes, or where both act."""
    first, second = (
        [piece for piece in pieces_of(source) if piece.code and piece.docstring is None] for source in (a, b)
    )
    places: dict[str, list[int]] = defaultdict(list)
    for index, piece in enumerate(second):
        places[ast.dump(piece.node)].append(index)
    order = [(places[ast.dump(piece.node)] or [-1]).pop(0) for piece in first]
    if sorted(order) != list(range(len(second))):
        return False
    needs = needs_of([], first)
    swapped = ((i, j) for i, j in combinations(range(len(first)), 2) if order[i] > order[j])
    return not any(
        (first[i].names.acts and first[j].names.acts)
        or first[i].names.writes & (needs[j] | first[j].names.writes)
        or first[j].names.writes & needs[i]
        for i, j in swapped
    )


def _bindings(piece: Piece) -> dict[str, object]:
    """Each name that a statement binds → what tells it from other bindings: the imported object, or the statement."""
    if isinstance(piece.node, ast.Import):  # `import a.b` binds the package `a`
        return {alias.asname or alias.name.partition(".")[0]: _target(alias) for alias in piece.node.names}
    return dict(piece.imports()) or {name: object() for name in piece.names.binds}


def _target(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]
