"""Whether a history has come to a plateau, and what its facts suggest to do next."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import counted
from pytest_autoresearch.research.families import CONSTANTS, Family
from pytest_autoresearch.research.history import Entry, History
from pytest_autoresearch.research.importance import Importance
from pytest_autoresearch.research.near_misses import NearMiss

LEAST, TIMES = 10, 3
"""A plateau needs so many verdicts without a keep, and so many times as many as a keep took before. After LEAST more it
takes the next of STEPS."""
RULE = f"at least {LEAST} verdicts without a keep, and {TIMES} times as many as one took before"
BY_HAND = 3
"""The least number of experiments on constants after which a sweep is suggested."""
GROWN = 20
"""The least number of lines by which promotions made the baseline longer before a simplification is suggested."""

STEPS = ("refine", "combine", "another family", "read", "simplify")
"""What to do while a plateau lasts, one after the other."""

_SAFE = re.compile(r"[A-Za-z][\w/]{0,39}", re.ASCII)


@dataclass(frozen=True)
class Plateau:
    """`since`: verdicts since the last keep. `usual`: how many verdicts a keep took on average before that; None if
    nothing was ever kept, and then LEAST · TIMES verdicts are a plateau.

    `step` is the one of STEPS that a plateau has come to, or "". `next_at` says after how many verdicts without a keep
    the step after it begins; None if there is none.
    """

    is_plateau: bool
    since: int
    usual: float | None
    rule: str = RULE
    step: str = ""
    next_at: int | None = None

    @property
    def least(self) -> float:
        """After how many verdicts without a keep it is a plateau."""
        return max(LEAST, TIMES * (LEAST if self.usual is None else self.usual))


def plateau_of(history: History) -> Plateau:
    """Whether keeps have become much rarer than they were.

    If each verdict is a keep with probability 1/m, then 3 m verdicts without a keep have probability exp(−3), 1 in 20.
    """
    kept = sum(entry.outcome is Outcome.KEPT for entry in history.verdicts)
    since = len(history.since_keep)
    usual = (len(history.verdicts) - since) / kept if kept else None
    plateau = Plateau(False, since, usual)
    return replace(plateau, is_plateau=since >= plateau.least)


def escalate(plateau: Plateau, advised: Sequence["Advice"]) -> tuple[Plateau, list["Advice"]]:
    """The plateau with its step, and the advice with that step's first, then the earlier steps', then the later ones'.

    A plateau takes a step every LEAST verdicts. Steps without advice are left out. What is there to be judged comes
    first in any case. Without a plateau nothing changes.
    """
    steps = [step for step in STEPS if any(each.what == step for each in advised)]
    if not plateau.is_plateau or not steps:
        return plateau, list(advised)
    number = min(int((plateau.since - plateau.least) / LEAST), len(steps) - 1)
    is_last = number == len(steps) - 1
    next_at = None if is_last else math.ceil(plateau.least + (number + 1) * LEAST)

    def rank(each: Advice) -> int:
        place = steps.index(each.what) if each.what in steps else len(steps)
        return -1 if each.what not in STEPS else number - place if place <= number else place

    return replace(plateau, step=steps[number], next_at=next_at), sorted(advised, key=rank)


def due(plateau: Plateau, advised: Sequence["Advice"]) -> list["Advice"]:
    """Of the advice in its order, what is to be done now: up to the step of a plateau, or the first three."""
    if not plateau.step:
        return list(advised[:3])
    later = STEPS[STEPS.index(plateau.step) + 1 :]
    return [each for each in advised if each.what not in later]


@dataclass(frozen=True)
class Untried:
    """What no experiment has changed of today's program, constants and definitions, and files without a verdict."""

    constants: Sequence[str]
    definitions: Sequence[str]
    experiments: Sequence[str]


@dataclass(frozen=True)
class Advice:
    """One thing to do: `what` is one of STEPS, or "judge".

    `why` is the tool's own text; `names` come from experiments. `command` has only names that are safe in a shell.
    """

    what: str
    why: str
    names: tuple[str, ...] = ()
    command: str = ""


def is_safe(name: str) -> bool:
    """Whether a name may stand in a command."""
    return _SAFE.fullmatch(name) is not None


def advice(
    history: History,
    near: Sequence[NearMiss],
    by_family: Sequence[Family],
    definitions: Collection[str],
    constants: Sequence[Importance],
    untried: Untried,
    is_there: Callable[[str], bool],
) -> list[Advice]:
    """What to do next, each with its reason in this history.

    `definitions` are the names that the baseline binds, without its constants. `is_there` says whether an experiment's
    file still exists.
    """
    usable = [miss for miss in near if is_safe(miss.entry.experiment) and is_there(miss.entry.experiment)]
    return [
        *_judge(untried.experiments),
        *_retest(usable),
        *_combine(usable),
        *_sweep(history, by_family, constants, is_there),
        *_another_family(by_family, untried.definitions),
        *_read(history, near),
        *_simplify(history, definitions),
    ]


def _judge(files: Sequence[str]) -> Iterable[Advice]:
    if files:
        yield Advice("judge", f"{counted(len(files), 'file')} without a verdict", (), "pytest experiments")


def _retest(usable: Sequence[NearMiss]) -> Iterable[Advice]:
    if outrun := [miss for miss in usable if miss.kept and miss.promotions_since]:
        why = f"{len(outrun)} kept and outrun; a session tries them anew by itself"
        yield Advice("refine", why, (), "pytest experiments")
    if met := [miss.entry.experiment for miss in usable if not miss.kept and miss.promotions_since][:3]:
        why = "near misses that met an earlier baseline"
        yield Advice("refine", why, (), f'pytest experiments -k "{" or ".join(met)}" --ar-retest')


def _combine(usable: Sequence[NearMiss]) -> Iterable[Advice]:
    for one, other in combinations(usable[:10], 2):
        changes = {*one.entry.changes}, {*other.entry.changes}
        if all(changes) and not changes[0] & changes[1]:
            names = f'"{one.entry.experiment}" "{other.entry.experiment}"'
            why = "near misses that change different parts"
            yield Advice("combine", why, (), f"autoresearch new NAME --combine {names}")
            return


def _sweep(
    history: History, by_family: Sequence[Family], constants: Sequence[Importance], is_there: Callable[[str], bool]
) -> Iterable[Advice]:
    by_hand = next((family for family in by_family if family.name == CONSTANTS), None)
    if constants:
        first, file = constants[0], history.trials[-1].file
        why = f"of the constants this matters most ({first.share:.0%}); narrow its range around the best value:"
        path = f'"experiments/{file}.py"' if is_safe(file) and is_there(file) else "experiments/x.py"
        yield Advice("refine", why, (first.name, first.best), f"pytest {path} --ar-trials 20")
    elif by_hand and not history.trials and len(by_hand.entries) >= BY_HAND:
        best = "" if by_hand.best_delta is None else f", best {by_hand.best_delta:+.4f}"
        why = f"{len(by_hand.entries)} tries of constants by hand{best}; a SEARCH_SPACE tries them together"
        yield Advice("refine", why, (), "pytest experiments/x.py --ar-trials 20")


def _another_family(by_family: Sequence[Family], untried: Sequence[str]) -> Iterable[Advice]:
    if not by_family:
        return
    worn = max(by_family, key=lambda family: family.since_kept)
    if worn.since_kept >= LEAST and len(by_family) > 1:
        why = f"{worn.since_kept} tries without a keep in"
        yield Advice("another family", why, (worn.name,), "autoresearch new NAME")
    if untried:
        yield Advice("another family", "no experiment has changed", tuple(untried[:4]), "autoresearch new NAME")


def _read(history: History, near: Sequence[NearMiss]) -> Iterable[Advice]:
    """Evidence outlives the experiments' files, so that these need not be there."""
    show = "autoresearch show --evidence"
    if nearest := next((miss.entry.experiment for miss in near if is_safe(miss.entry.experiment)), ""):
        why = "what the nearest miss changed, how its loss went, and what papers and programs of others say of it"
        yield Advice("read", why, (), f'{show} "{nearest}"')
    failed = [entry for entry in history.verdicts if not entry.outcome.has_score]
    if latest := next((entry.experiment for entry in reversed(failed) if is_safe(entry.experiment)), ""):
        yield Advice("read", f"{len(failed)} without a score; why the latest has none", (), f'{show} "{latest}"')
    if history.verdicts and not nearest:
        why = "the latest verdicts by their delta, and what papers and programs of others do that no experiment has"
        yield Advice("read", why, (), "autoresearch history --sort=delta --last 50")


def _simplify(history: History, definitions: Collection[str]) -> Iterable[Advice]:
    promoted = [entry for entry in history.verdicts if entry.is_baseline]
    grown = sum(entry.lines_added - entry.lines_removed for entry in promoted)
    if grown >= GROWN and len(promoted) > 1:
        layers = _layers(promoted, definitions)
        why = f"promotions have added {grown} lines; try GOAL = 'simplify'"
        why += " on what they changed more than once:" if layers else ""
        yield Advice("simplify", why, layers, "autoresearch suggest")


def _layers(promoted: Sequence[Entry], definitions: Collection[str]) -> tuple[str, ...]:
    changes = [name for entry in promoted for name in entry.changes if name in definitions]
    twice = {name for name in changes if changes.count(name) > 1}
    return tuple(sorted(twice, key=lambda name: (-changes.count(name), name))[:3])
