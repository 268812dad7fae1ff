"""`--agent random`: an agent without a model. It moves one to three constants of the baseline, or takes a suggestion.

`python -m pytest_autoresearch.loop.random_agent` works in the scratch folder of a round, as any agent does, and in any
project. It draws by AUTORESEARCH_ROUND and AUTORESEARCH_ATTEMPT, so a night can be repeated. It trains nothing and does
not import torch.
"""

import math
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.judging.ledger import Ledger
from pytest_autoresearch.judging.project import Options, Project, find_project
from pytest_autoresearch.programs.arithmetic import Value
from pytest_autoresearch.programs.combine import overlay
from pytest_autoresearch.programs.constants import constants_of, different, spell, spelled_in, with_constants, written
from pytest_autoresearch.programs.experiment import Experiment, Program, parse_errors, parse_experiment, read_experiment
from pytest_autoresearch.programs.history import changed_names
from pytest_autoresearch.programs.similar import near
from pytest_autoresearch.programs.statements import pieces_of
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.plateau import is_safe

DRAWS = 500
"""How often it draws before it says that there is nothing new."""
SUGGESTED = 0.25
"""How often it takes a suggestion where there is one."""
LEAST = 1.15
"""The least factor by which a number is raised or lowered."""
IDEA = "idea.txt"

Values = Mapping[str, Value]


@dataclass
class Known:
    """What was tried on today's baseline: hashes of programs, and the values of all constants of those programs that
    differ from the baseline in constants only. `spelled` holds points as descriptions spell them."""

    programs: set[str] = field(default_factory=set)
    points: list[Values] = field(default_factory=list)
    spelled: list[dict[str, str]] = field(default_factory=list)


class RandomAgent:
    """Proposes for one project, on one track. `draw` is its only source of chance."""

    def __init__(self, project: Project, track: Track, draw: random.Random, earlier: str = "") -> None:
        """`earlier` is the idea file of this round: what it lists was refused. UsageError: no track, no baseline."""
        self.project, self.track, self.draw = project, track, draw
        try:
            self.baseline = Program(track.program_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{track.program_path}: cannot be read: {error}") from None
        with parse_errors(track.program_path):
            self.constants = constants_of(self.baseline.source)
            self.related = list(related(self.baseline.source, self.constants))
        self.refused = dict(line.split(": ", 1) for line in earlier.splitlines() if ": " in line)
        self.known = self._known()

    def propose(self) -> Experiment | None:
        """An experiment that nobody has tried, not written yet; None if it finds none."""
        if self.draw.random() < SUGGESTED and (found := self._suggested()):
            return found
        return self._moved() or self._suggested()

    def _suggested(self) -> Experiment | None:
        paths = sorted((self.project.root / "suggestions").glob("*.py"))
        self.draw.shuffle(paths)
        for path in paths:
            with suppress(UsageError):
                text = read_experiment(path, path.parent).source
                if path.stem not in self.refused and (found := self._experiment(path.stem, text)):
                    return found
        return None

    def _moved(self) -> Experiment | None:
        """An overlay with one to three constants moved. A move may have to be drawn again: what divides must divide."""
        movable = sorted(name for name, value in self.constants.items() if can_move(value))
        for _ in range(DRAWS if movable else 0):
            names = self.draw.sample(movable, min(len(movable), self.draw.choice([1, 1, 1, 2, 2, 3])))
            values = {name: moved(self.constants[name], self.draw) for name in names}
            if len(different(values, self.constants)) < len(values):
                continue
            if {name: written(value) for name, value in values.items()} in self.known.spelled:
                continue
            before = ", ".join(f"{self.constants[name]:.6g}" for name in values)
            text = with_constants("from baseline import *\n", values)
            description = f"{spell(values)}: {'was' if len(values) == 1 else 'were'} {before}."
            found = self._experiment(self._name(values), overlay(description, self.track.folder.name, text))
            if found and self._is_sound(found, values):
                return found
        return None

    def _experiment(self, name: str, text: str) -> Experiment | None:
        """The experiment with this text, under a free name; None if it does not apply, or was tried."""
        path = self.project.experiments / f"{name}.py"
        with suppress(UsageError), parse_errors(path):
            experiment = parse_experiment(path, self.project.experiments, text)
            program = experiment.program(self.baseline.source, self.track.program_path)
            is_new = self.known.programs.isdisjoint({program.sha, program.code_sha})
            if is_new and not path.exists() and not self._is_known(self._point(program)):
                return experiment
        return None

    def _is_known(self, point: Values | None) -> bool:
        return point is not None and any(
            all(is_near(value, other.get(name)) for name, value in point.items()) for other in self.known.points
        )

    def _is_sound(self, experiment: Experiment, values: Values) -> bool:
        """Whether the program has these values, and what divided each other still does."""
        program = experiment.program(self.baseline.source, self.track.program_path)
        constants = constants_of(program.source)
        if different(values, constants):
            return False
        return all(is_multiple(constants.get(one), constants.get(other)) for one, other in self.related)

    def _name(self, values: Values) -> str:
        """`raise_width_depth_lower_warmup`, with a number if there is such a file already."""
        moves: dict[str, list[str]] = {}
        for name, value in values.items():
            moves.setdefault("raise" if larger(value, self.constants[name]) else "lower", []).append(name.lower())
        stem = re.sub(r"[^a-z0-9_]", "", "_".join("_".join([verb, *names]) for verb, names in moves.items()))[:80]
        number = 1
        while (self.project.experiments / f"{stem}{f'_{number}' * (number > 1)}.py").exists():
            number += 1
        return stem + f"_{number}" * (number > 1)

    # -- what was tried --

    def _known(self) -> Known:
        known = Known({self.baseline.sha, self.baseline.code_sha}, [self.constants])
        known.spelled += map(spelled_in, self.refused.values())
        root = self.project.root
        for entry in History.read(Ledger(root), self.track.name).entries:
            known.programs.add(entry.program_sha)
            if entry.baseline_sha == self.baseline.sha:
                known.spelled.append(spelled_in(entry.description))
        for path in sorted(self.project.experiments.rglob("[!_.]*.py")):
            with suppress(UsageError, SyntaxError):
                experiment = read_experiment(path, self.project.experiments)
                program = experiment.program(self.baseline.source, self.track.program_path)
                known.programs.add(program.code_sha)
                if point := self._point(program):
                    known.points.append(point)
        return known

    def _point(self, program: Program) -> Values | None:
        """The constants of a program; None if it differs from the baseline in anything else."""
        constants = constants_of(program.source)
        return constants if self.constants.keys() >= {*changed_names(self.baseline.source, program.source)} else None


# -- moves --


def can_move(value: Value) -> bool:
    """Whether it is a number that a factor changes: no string, no True, not zero, and no negative integer."""
    return (type(value) is int and value > 0) or (type(value) is float and value != 0)


def moved(value: Value, draw: random.Random) -> Value:
    """The number by a factor: an integer by 1/2, 3/4, 5/4 or 2 and at least 1, any other by 1/2 to 2 in two digits.

    Of numbers between 0.5 and 1, such as momenta and decays, the distance to 1 is moved. A factor is at least LEAST
    away from 1 either way: nearer numbers would be twins.
    """
    if type(value) is int:
        up = draw.random() < 0.5
        factors = (5, 8) if up else (3, 2)  # quarters
        quarters = value * draw.choice(factors)
        return -(-quarters // 4) if up else max(1, quarters // 4)
    number = float(value or 0)
    factor = math.exp(draw.uniform(math.log(LEAST), math.log(2)) * draw.choice([-1, 1]))
    if 0.5 < number < 1:
        return round(1 - float(f"{(1 - number) * factor:.2g}"), 12)
    return float(f"{number * factor:.2g}")


def larger(one: Value, other: Value) -> bool:
    """Whether a number is larger than another; numbers are all that this module compares."""
    return isinstance(one, int | float) and isinstance(other, int | float) and one > other


def is_near(one: Value, other: Value) -> bool:
    """Whether two values are equal, or numbers so near that experiments with them would be twins."""
    return one == other or (type(one) is type(other) is float and near(float(one or 0), float(other or 0)))


def is_multiple(one: Value, other: Value) -> bool:
    """Whether both are integers and the second one divides the first."""
    return type(one) is int and type(other) is int and other > 0 and one % other == 0


def related(source: str, constants: Values) -> Iterator[tuple[str, str]]:
    """Pairs of constants of which the second divides the first, as HEADS divides WIDTH, and which some statement of the
    program mentions together: there the one is probably divided by the other. Raises the errors of `parse`."""
    seen = set[tuple[str, str]]()
    for piece in pieces_of(source):
        names = sorted(constants.keys() & (piece.names.mentions | piece.names.binds))
        seen |= {(one, other) for one in names for other in names if one != other}
    for one, other in sorted(seen):
        if is_multiple(constants[one], constants[other]) and constants[other] != 1:
            yield one, other


# -- the command --


def main() -> int:
    """Write one experiment into the project of the working folder. Returns 1 if there is none to write."""
    number, attempt = os.environ.get("AUTORESEARCH_ROUND", ""), os.environ.get("AUTORESEARCH_ATTEMPT", "1")
    try:
        project, settings = find_project(Path.cwd())
        wanted = os.environ.get("AUTORESEARCH_TRACK") or settings.get("autoresearch_track") or None
        ideas = project.root / IDEA
        earlier = ideas.read_text(encoding="utf-8") if number and attempt != "1" and ideas.exists() else ""
        draw = random.Random(f"{number or 0} {attempt}")
        track = project.choose_track(Options(track=wanted and wanted.partition("@")[0]))  # also for a quick look
        agent = RandomAgent(project, track, draw, earlier)
        found = agent.propose()
        for name in agent.refused:  # what was refused would be refused again
            if is_safe(name):
                (project.experiments / f"{name}.py").unlink(missing_ok=True)
        if found is None:
            print("nothing new: every move of the baseline's constants that was drawn, and every suggestion, was tried")
            return 1
        if number:
            ideas.write_text(f"{found.name}: {found.description}\n{earlier}", encoding="utf-8")
        with found.path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(found.source)
    except UsageError as error:
        print(f"random agent: {one_line(str(error))}", file=sys.stderr)
        return 2
    print(f"wrote {found.path.relative_to(project.root).as_posix()}: {one_line(found.description)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
