"""What is worth a run without a new idea, best first.

- A near miss, or what was kept and outrun, that has met only an earlier baseline: judged anew.
- Two of those ideas, or of those that met today's baseline, in one experiment.
- Today's baseline without the layers that promotions have left, last.

They are ranked by expected gain in val_bpb. That of an idea is its delta times (1 - p), where p is the p-value of its
verdict. That of a pair is half the sum of both, because gains overlap. That of a simplification is 0.
"""

import ast
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, count, islice
from os.path import isfile
from pathlib import Path

from pytest_autoresearch.core.errors import NotJudged, UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import read_source
from pytest_autoresearch.judging import plan
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.programs.combine import combine
from pytest_autoresearch.programs.compare import same_program
from pytest_autoresearch.programs.experiment import SOURCE_BYTES, Experiment, Program, parse_experiment
from pytest_autoresearch.programs.fold import fold
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.size import compare_sizes
from pytest_autoresearch.programs.splice import changes_of
from pytest_autoresearch.programs.statements import pieces_of
from pytest_autoresearch.research.history import Entry, History
from pytest_autoresearch.research.near_misses import near_misses

READ, PAIRED, TRIED = 40, 10, 20
"""The most files to read, ideas to pair, and pairs to combine: a history may have thousands of ideas."""
FOLDED = "The baseline without layers that promotions have left: the same function in fewer tokens of code."
NAME_LENGTH = 100


@dataclass(frozen=True)
class Suggestion:
    """One experiment to judge: its file at `path`, or the `text` of that file, which is not there yet.

    `kind` is "near miss", "kept", "pair" or "simplification"; `parts` are the experiments of a pair. `gain` is the
    expected gain in val_bpb.
    """

    kind: str
    name: str
    path: Path
    why: str
    gain: float
    text: str | None = None
    parts: tuple[str, ...] = ()

    def write(self) -> None:
        """Write the file, unless it is there. UsageError if another file has come in its place, or it cannot be."""
        if self.text is None:
            return
        try:
            with self.path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(self.text)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written: {error.strerror}") from None


def suggest(context: Context, history: History, at_most: int) -> list[Suggestion]:
    """At most `at_most` suggestions for today's baseline, best first. Runs nothing and writes nothing."""
    return _Search(context, history).best(at_most)


def expected_gain(entry: Entry) -> float:
    """The gain of an idea in val_bpb times 1 - p; half its gain if its verdict has no p-value."""
    return -(entry.delta or 0.0) * (1 - (0.5 if entry.p_value is None else entry.p_value))


def ideas_of(history: History) -> list[Entry]:
    """The near misses with a lower score than their baseline's that were never promoted; the most promising first."""
    promoted = {entry.experiment for entry in history.verdicts if entry.is_baseline}
    near = [miss.entry for miss in near_misses(history) if miss.entry.experiment not in promoted]
    return sorted((entry for entry in near if (entry.delta or 0.0) < 0), key=expected_gain, reverse=True)


class _Search:
    """What one search has read: the files of ideas, and the programs that they run on today's baseline."""

    def __init__(self, context: Context, history: History) -> None:
        self.context = context
        self.baseline = context.baseline_program.source
        self.history = history
        there = (entry for entry in ideas_of(history) if isfile(self._path(entry)))
        self.ideas = list(islice(there, READ))
        self.judged = {entry.experiment for entry in history.verdicts}
        self.programs = {entry.program_sha for entry in history.entries}
        today = context.baseline_program.sha
        self.judged_today = {entry.experiment for entry in history.verdicts if entry.baseline_sha == today}
        self._read: dict[str, tuple[Experiment, Program] | None] = {}

    def best(self, at_most: int) -> list[Suggestion]:
        """The best suggestions. The most promising ones are looked at first, so that few files have to be read."""
        readable = (entry for entry in self.ideas if self.read(entry))
        pairs = sorted(combinations(islice(readable, PAIRED), 2), key=_gain, reverse=True)[:TRIED]
        earlier = [(entry,) for entry in self.ideas if entry.experiment not in self.judged_today]
        ranked = sorted([*earlier, *pairs], key=_gain, reverse=True)
        found = (self.again(*ideas) if len(ideas) == 1 else self.pair(*ideas) for ideas in ranked)
        some = list(islice((suggestion for suggestion in found if suggestion), at_most))
        return some if len(some) == at_most else [*some, *self.simplification()]

    def read(self, entry: Entry) -> tuple[Experiment, Program] | None:
        """The overlay that was judged, and its program on today's baseline.

        None if its file is gone or has changed, or if the baseline has its change already.
        """
        if entry.experiment not in self._read:
            self._read[entry.experiment] = self._read_anew(entry)
        return self._read[entry.experiment]

    def _read_anew(self, entry: Entry) -> tuple[Experiment, Program] | None:
        if ".." in self._path(entry).parts:
            return None
        try:
            experiment, program = plan.read(self.context, self._path(entry))
        except (NotJudged, UsageError):
            return None
        is_idea = experiment.is_overlay and not experiment.simplifies and not self._is_there(experiment)
        return (experiment, program) if is_idea and self._is_as_judged(entry, experiment, program) else None

    def _is_there(self, experiment: Experiment) -> bool:
        """Whether the baseline has a statement of an overlay already: the idea was promoted in a pair, or in part."""
        known = {ast.dump(piece.node) for piece in pieces_of(self.baseline)}
        changes = (piece for piece in changes_of(experiment.source) if not piece.is_import)
        return any(ast.dump(piece.node) in known for piece in changes)

    def _path(self, entry: Entry) -> Path:
        return self.context.project.experiments / f"{entry.experiment}.py"

    def _is_as_judged(self, entry: Entry, experiment: Experiment, program: Program) -> bool:
        """Whether this file is the one that was judged. If the evidence is gone: whether it changes the same names."""
        evidence = self.context.evidence
        if kept := evidence.of_program(self.context.track.name, entry.experiment, entry.program_sha):
            return any(verdict.experiment_sha == experiment.sha for verdict in kept)
        return not entry.changes or set(entry.changes) == set(changed_names(self.baseline, program.source))

    # -- kinds of suggestions --

    def again(self, entry: Entry) -> Suggestion | None:
        """An idea that has met only an earlier baseline."""
        if not (known := self.read(entry)) or known[1].sha in self.programs:
            return None
        kind = "kept" if entry.outcome is Outcome.KEPT else "near miss"
        why = f"{_numbers(entry)} against an earlier baseline{self._score_of(entry.baseline_sha)}"
        return Suggestion(kind, entry.experiment, known[0].path, why, expected_gain(entry))

    def pair(self, first: Entry, second: Entry) -> Suggestion | None:
        """Two ideas in one file, if they do not collide and each does something beside the other."""
        parts = [known for entry in (first, second) if (known := self.read(entry))]
        stem = "_and_".join(experiment.path.stem for experiment, _ in parts)
        try:
            text = combine([(experiment.path, experiment.source) for experiment, _ in parts], self.baseline)
            path, is_there = self._place(stem, text)
            experiment = parse_experiment(path, self.context.project.experiments, text)
            program = experiment.program(self.baseline, self.context.baseline.path)
        except (UsageError, SyntaxError):
            return None
        if any(_has_no_effect(part, program.source, other) for (part, _), (_, other) in (parts, parts[::-1])):
            return None
        if program.sha in self.programs or experiment.name in self.judged or len(path.stem) > NAME_LENGTH:
            return None
        why = " with ".join(f"{entry.experiment} {_numbers(entry)}" for entry in (first, second))
        names = (first.experiment, second.experiment)
        return Suggestion("pair", experiment.name, path, why, _gain((first, second)), None if is_there else text, names)

    def simplification(self) -> list[Suggestion]:
        """Today's baseline, folded, as a complete program: an overlay cannot remove statements."""
        if not self.context.track.simplify_margin:
            return []
        try:
            folded = fold(self.baseline)
            text = _as_simplification(folded, self.context.track.folder.name)
            path, is_there = self._place("folded", text, first="_1")
            experiment = parse_experiment(path, self.context.project.experiments, text)
            program = experiment.program(self.baseline, self.context.baseline.path)
        except (UsageError, SyntaxError, RecursionError, MemoryError):
            return []
        is_simpler, sizes = compare_sizes(program.source, self.baseline)
        if not is_simpler or program.sha in self.programs or len(text.encode()) > SOURCE_BYTES:
            return []
        return [Suggestion("simplification", experiment.name, path, sizes, 0.0, None if is_there else text)]

    def _place(self, stem: str, text: str, first: str = "") -> tuple[Path, bool]:
        """The file for a text: one that has the same code, or a new one. Whether it is there."""
        for number in count(1):
            path = self.context.project.experiments / f"{stem}{first if number == 1 else f'_{number}'}.py"
            if not path.is_symlink() and not path.exists():
                return path, False
            with suppress(UsageError):
                if same_program(read_source(path, SOURCE_BYTES), text):
                    return path, True
        raise AssertionError

    def _score_of(self, sha: str) -> str:
        scores = [entry.val_bpb for entry in self.history.baselines if entry.program_sha == sha and entry.val_bpb]
        return f" of {scores[-1]:.4f}" if scores else ""


def _gain(ideas: Sequence[Entry]) -> float:
    return sum(map(expected_gain, ideas)) / len(ideas)


def _has_no_effect(idea: Experiment, program: str, without: Program) -> bool:
    """Whether a program does the same without one of its ideas, as when another one replaces all that uses it.

    Folding takes time, so only ideas are checked whose names no more than replaced classes mention.
    """
    names = set[str]().union(*(piece.names.binds for piece in changes_of(idea.source)))
    pieces = pieces_of(program)
    for number, piece in enumerate(pieces):
        is_layer = isinstance(piece.node, ast.ClassDef) and any(
            piece.node.name in later.names.binds for later in pieces[number + 1 :]
        )
        if piece.names.mentions & names and not piece.names.binds & names and not is_layer:
            return False
    return same_program(fold(program), fold(without.source))


def _numbers(entry: Entry) -> str:
    """`-0.0128 (p 0.004, kept)`"""
    p_value = "" if entry.p_value is None else f"p {entry.p_value:.2g}, "
    return f"{entry.delta:+.4f} ({p_value}{entry.outcome})"


def _as_simplification(program: str, track: str) -> str:
    """A complete program with TRACK and GOAL below its imports, and what it is in front of its docstring."""
    *pieces, _ = pieces_of(program)
    docstring = (pieces[0].docstring or "").removeprefix(FOLDED).strip("\n")
    body = pieces[1:] if pieces[0].docstring is not None else pieces
    place = next((i for i, piece in enumerate(body) if not piece.is_import), len(body))
    texts = [piece.lead + piece.code + piece.rest for piece in body]
    head = f'"""{FOLDED}\n\n{docstring}\n"""\n' if docstring else f'"""{FOLDED}"""\n'
    return "".join([head, *texts[:place], f'\nTRACK = "{track}"\nGOAL = "simplify"\n', *texts[place:]])
