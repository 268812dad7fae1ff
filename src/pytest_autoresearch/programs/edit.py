"""An edited program as an experiment: the statements that differ as an overlay, or the whole program."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.combine import described, overlay, title_of
from pytest_autoresearch.programs.compare import code_sha, same_program
from pytest_autoresearch.programs.experiment import SOURCE_BYTES, Experiment, parse_errors, parse_experiment
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.statements import Piece, pieces_of


def experiment_from_edit(old: str, edited: str, path: Path, root: Path, track: str) -> Experiment:
    """The experiment at `path` whose program is the edited one: an overlay on `old` for `track`, if there is such an
    overlay; a complete program if statements were removed or stand in another order. Only imports may be moved.

    Comments that were edited come along. UsageError if it would not be an experiment. Raises the errors of `parse`.
    """
    title = title_of(path)
    names = ", ".join(changed_names(old, edited))
    changes = "".join(_changed_statements(old, edited))
    text = overlay(f"{title}: changes {names}" if names else title, track, f"from baseline import *\n{changes}")
    experiment = _read(path, root, text)
    if changes and experiment and _gives(experiment, old, edited):
        return experiment
    text = described(edited, f"{title}:")
    if (size := len(text.encode())) > SOURCE_BYTES:
        raise UsageError(f"{path}: {size} bytes of source; an experiment has at most {SOURCE_BYTES}")
    with parse_errors(path):
        return parse_experiment(path, root, text if same_program(text, edited) else edited)


def _read(path: Path, root: Path, text: str) -> Experiment | None:
    try:
        return parse_experiment(path, root, text)
    except UsageError:
        return None


def _gives(experiment: Experiment, old: str, edited: str) -> bool:
    """Whether the experiment's program has the code of the edited one; imports may stand in another order."""
    try:
        program = experiment.program(old, "the baseline").source
        return same_program(program, edited) or _in_order(program) == _in_order(edited)
    except UsageError:  # for example a new name that nothing uses
        return False


def _in_order(program: str) -> tuple[list[str], list[str]]:
    """The imports of a program in sorted order, and its other statements in their own. Raises the errors of `parse`."""
    imports, others = list[str](), list[str]()
    for piece in pieces_of(program):
        if piece.docstring is None:
            (imports if piece.is_import else others).append(code_sha(piece.code))
    return sorted(imports), others


def _changed_statements(old: str, edited: str) -> list[str]:
    """The text of each statement of the edited program that the old one lacks, or that has comments it lacks.

    Comments above a statement are left out if the old program has them: the splice keeps those.
    """
    *before, end = pieces_of(old)
    known = Counter(ast.dump(piece.node) for piece in before)
    leads = _comment_lines(end.lead).union(*(_comment_lines(piece.lead) for piece in before))
    inside = set[str]().union(*(_comments(piece) for piece in before))
    changed = []
    *after, last = pieces_of(edited)
    for piece in after:
        code = ast.dump(piece.node)
        known[code] -= 1
        has_new_lead = not _comment_lines(piece.lead) <= leads
        if piece.docstring is None and (known[code] < 0 or has_new_lead or not _comments(piece) <= inside):
            changed.append((piece.lead if has_new_lead else "\n") + piece.code + piece.rest)
    return [*changed, *([last.lead] if changed and not _comment_lines(last.lead) <= leads else [])]


def _comment_lines(lead: str) -> set[str]:
    return {line.strip() for line in lead.splitlines() if line.strip()}


def _comments(piece: Piece) -> set[str]:
    """The comments inside a statement and after it, and the strings below it."""
    tokens = tokenize.generate_tokens(io.StringIO(piece.code + piece.rest).readline)
    return {token.string for token in tokens if token.type == tokenize.COMMENT} | {piece.rest.strip()}
