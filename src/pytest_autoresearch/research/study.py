"""A study: the points of one sweep and their scores, kept in a journal that several processes share."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.programs.arithmetic import Value
from pytest_autoresearch.programs.constants import spell, written
from pytest_autoresearch.programs.search_space import SearchSpace
from pytest_autoresearch.research import samplers

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SAMPLERS = ("tpe", "gp", "random", "grid")
GRID = 10_000
"""The most combinations that a grid may have."""
INSTALL = "pip install 'pytest-autoresearch[search]'"
LINE = b'{"op_code":'
"""How a line of Optuna's journal begins."""


@dataclass(frozen=True)
class Point:
    """The values of item `number` (1, 2, …) of a sweep."""

    number: int
    values: dict[str, Value]


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended. `score` (val_bpb) is None if the run has none, or took more memory than is allowed."""

    number: int
    values: dict[str, Value]
    score: float | None


def size_of_grid(space: SearchSpace) -> int:
    """How many combinations there are, those that miss a constraint included. UsageError: a range has no step."""
    for name, allowed in space.keys.items():
        if allowed.size is None:
            ends = f"{written(allowed.low)}, {written(allowed.high)}"
            line = f"SEARCH_SPACE: `{name}`: a grid needs a step; write ({ends}, step) or [choice, …]"
            raise UsageError(line)
    return math.prod(allowed.size or 1 for allowed in space.keys.values())


class Study:
    """The study `name` in the journal at `path`. A study of another space or sampler is another study.

    `constants` are those of the program without the sweep's values. `lock` makes a lock of a name. Any number of
    processes may open the same study; each operation holds the study's lock and reads the journal anew.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        space: SearchSpace,
        constants: Mapping[str, Value],
        sampler: str,
        lock: Callable[[str], FileLock],
    ) -> None:
        _check(sampler, space)
        self.path = path
        self.name = f"{name} {sampler} {digest(repr(space))}"
        self.space = space
        self.constants = constants
        self.sampler = sampler
        self._new_lock = lock
        self._held = set[int]()
        with self._opened() as study:
            self._end_killed(study)

    @contextmanager
    def point(self, number: int) -> Iterator[Point | None]:
        """The point of item `number`: the one it had before, or a new one that meets the constraints.

        None: the grid has no more, or nothing that is new meets the constraints. While the block runs, the item is this
        process's; another one waits for it.
        """
        with self._lock_of(number):
            with self._opened() as study:
                values = self._begin(study, number)
            self._held.add(number)
            try:
                yield None if values is None else Point(number, values)
            finally:
                self._held.discard(number)

    def end(self, number: int, score: float | None, memory_excess: float | None = None, failed: bool = False) -> None:
        """Record how the run of item `number` ended. What has been recorded before stays.

        Without a score it has diverged, timed out or run out of memory; `failed`: crashed, which says nothing about the
        point. `memory_excess`: GB above the limit, below 0 if there was room.
        """
        from optuna.trial import Trial, TrialState

        with self._opened() as study:
            found = self._trial_of(study, number)
            if found is None or _has_ended(found):
                return
            if found.state is not TrialState.RUNNING:  # another process took this one for dead
                self._add(study, number, found.user_attrs["values"])
                found = study.trials[-1]
            trial = Trial(study, found._trial_id)
            trial.set_constraint("memory", memory_excess or 0.0)  # GP wants the same constraints of every trial
            if failed:
                trial.set_user_attr("crashed", True)
                study.tell(trial, state=TrialState.FAIL)
            elif score is None or not math.isfinite(score):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, score)

    def ended(self) -> list[EndedTrial]:
        """What has been tried, by number."""
        found = {}
        with self._opened() as study:
            for trial in study.trials:
                if _has_ended(trial) and (number := trial.user_attrs.get("item")):
                    allowed = all(amount <= 0 for amount in trial.constraints.values())
                    found[number] = EndedTrial(number, trial.user_attrs["values"], trial.value if allowed else None)
        return [found[number] for number in sorted(found)]

    def is_taken(self, number: int) -> bool:
        """Whether another live process runs this item."""
        if number in self._held:
            return False
        with self._opened():  # so that nobody else looks at the same time, and takes our look for a run
            return self._is_alive(number)

    # -- one item --

    def _begin(self, study: "optuna.Study", number: int) -> dict[str, Value] | None:
        """The values of an item, whose trial runs from now on unless it has ended."""
        trial = self._trial_of(study, number)
        if trial is not None and (_has_ended(trial) or not trial.state.is_finished()):
            return dict(trial.user_attrs["values"])
        values = dict(trial.user_attrs["values"]) if trial else self._new_values(study, number)
        if values is not None:
            self._add(study, number, values)
        return values

    def _new_values(self, study: "optuna.Study", number: int) -> dict[str, Value] | None:
        if self.sampler == "grid":
            return next(islice(samplers.grid(self.space, self.constants), number - 1, None), None)
        own = {name: self.constants[name] for name in self.space.keys if name in self.constants}
        is_usable = self.space.contains(own) and not self.space.violations(own, self.constants)
        if number == 1 and is_usable:
            return own
        taken = {spell(trial.user_attrs["values"]) for trial in study.trials} | ({spell(own)} if is_usable else set())
        seed = int(digest(f"{self.name} {len(study.trials)}"), 16) % 2**32
        return samplers.propose(self.sampler, self.space, self.constants, study.trials, taken, seed)

    def _add(self, study: "optuna.Study", number: int, values: Mapping[str, Value]) -> None:
        """Add a running trial, in one line of the journal, so that a kill leaves no half of one."""
        from optuna.trial import TrialState, create_trial

        known = {name: allowed for name, allowed in self.space.keys.items() if values[name] in allowed}
        every = samplers.distributions(self.space)
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={name: values[name] for name in known},  # with VARY, a key may keep a value outside its range
                distributions={name: every[name] for name in known},
                user_attrs={"item": number, "values": dict(values)},
            )
        )

    def _trial_of(self, study: "optuna.Study", number: int) -> "FrozenTrial | None":
        return next((trial for trial in reversed(study.trials) if trial.user_attrs.get("item") == number), None)

    # -- who is alive --

    def _lock_of(self, number: int) -> FileLock:
        """The lock of an item. The process that runs the item holds it; the system releases it when that one ends."""
        return self._new_lock(f"{self.name} item {number}")

    def _is_alive(self, number: int) -> bool:
        try:
            with self._lock_of(number).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _end_killed(self, study: "optuna.Study") -> None:
        """End the trials whose processes have been killed: the journal does not notice. Their items begin again."""
        from optuna.trial import TrialState

        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if not self._is_alive(trial.user_attrs["item"]):
                study.tell(trial.number, state=TrialState.FAIL)

    # -- the journal --

    @contextmanager
    def _opened(self) -> Iterator["optuna.Study"]:
        """The study as it stands, under the lock of the journal. UsageError: the journal is broken, or no file."""
        with self._new_lock(f"journal {self.path.resolve()}"):
            try:
                study = _load(self.path, self.name)
                if not all(map(self._is_of_sweep, study.get_trials(deepcopy=False))):
                    raise UsageError(f"{self.path}: no journal of this sweep; move it away to begin anew")
                yield study
            except OSError as error:
                raise UsageError(f"{self.path}: {error.strerror or error}") from None

    def _is_of_sweep(self, trial: "FrozenTrial") -> bool:
        """Whether a trial has a value for each key, and nothing else: the values become code."""
        number, values = trial.user_attrs.get("item"), trial.user_attrs.get("values")
        if not (isinstance(number, int) and isinstance(values, dict) and values.keys() == self.space.keys.keys()):
            return False
        return all(isinstance(value, Value) for value in values.values())


def check_sampler(sampler: str, space: SearchSpace) -> None:
    """UsageError if the sampler cannot search this space. Imports nothing, so it may be asked early."""
    if sampler not in SAMPLERS:
        raise UsageError(f"no sampler `{one_line(sampler)}`; there are {', '.join(SAMPLERS)}")
    if space.vary and sampler != "random":
        raise UsageError(
            f"VARY is for the sampler `random`; with `{sampler}` every key varies, so take VARY out, "
            "or give --ar-sampler random"
        )
    if sampler == "grid" and (size := size_of_grid(space)) > GRID:
        raise UsageError(f"SEARCH_SPACE: a grid of {size} combinations; at most {GRID} are allowed")


def _check(sampler: str, space: SearchSpace) -> None:
    check_sampler(sampler, space)
    needed = ["optuna", "scipy"] if sampler == "gp" else ["optuna"]
    if not all(importlib.util.find_spec(name) for name in needed):
        raise UsageError(f"the sampler `{sampler}` needs {' and '.join(needed)}: {INSTALL}")
    import optuna

    if not hasattr(optuna.trial.Trial, "set_constraint"):
        raise UsageError(f"optuna is {optuna.__version__}; 5 or later is needed: {INSTALL}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _load(path: Path, name: str) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class HeldLock(JournalFileOpenLock):  # Optuna's own locks outlive a kill, for half a minute, and may need links
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    path.parent.mkdir(parents=True, exist_ok=True)
    _cut_half_line(path)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), HeldLock(str(path))))
        sampler = optuna.samplers.RandomSampler()  # never asked: see `samplers`
        if name in {study.study_name for study in storage.get_all_studies()}:  # to create it writes a line each time
            return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        return optuna.create_study(study_name=name, storage=storage, sampler=sampler)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        problem = f"{type(error).__name__} {one_line(str(error))}"
        raise UsageError(f"{path}: no journal of Optuna ({problem}); move it away to begin anew") from None


def _cut_half_line(path: Path) -> None:
    """Remove what a kill has left of a line. Optuna skips it when it reads, but would write the next one behind it.

    UsageError: no regular file, such as a pipe, which nobody writes; or a line does not begin like one of Optuna's.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path}: not a regular file; move it away to begin anew")
    data = path.read_bytes() if path.exists() else b""
    *lines, half = data.split(b"\n")
    if not all(line.startswith(LINE) for line in lines) or half[: len(LINE)] != LINE[: len(half)]:
        raise UsageError(f"{path}: no journal of Optuna; move it away to begin anew")
    if half:
        with path.open("rb+") as file:
            file.truncate(len(data) - len(half))


def _has_ended(trial: "FrozenTrial") -> bool:
    """Whether the run of a trial ended by itself. A failed one was killed, unless it says that it crashed."""
    from optuna.trial import TrialState

    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or trial.user_attrs.get("crashed", False)
