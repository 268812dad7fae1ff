"""Experiments for pytest: each is a file with one item, or a sweep with an item for each trial and each finalist."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_autoresearch.core.errors import LeftUnjudged, NoExperiment, NotJudged, UsageError
from pytest_autoresearch.core.text import is_experiment_file, name_of, one_line
from pytest_autoresearch.plugin.session import session_of, twins_of
from pytest_autoresearch.plugin.settings import experiments_folder, has_tracks, project_root, uncaptured

if TYPE_CHECKING:
    from pytest_autoresearch.core.records import Verdict
    from pytest_autoresearch.judging.plan import Plan
    from pytest_autoresearch.research.sweep import Sweep

SWEEPS = pytest.StashKey["dict[Path, Sweep]"]()


class ExperimentFile(pytest.File):
    """A file under `experiments/`. Its name and node id have escapes where characters of the path do not print."""

    @classmethod
    def of(cls, parent: pytest.Collector, path: Path) -> "ExperimentFile":
        """The collector of a file."""
        where = Path(os.path.relpath(path, parent.config.rootpath))
        shown = name_of(where, Path()) + where.suffix
        if shown == where.as_posix():
            return cls.from_parent(parent, path=path)
        return cls.from_parent(parent, path=path, name=shown.rpartition("/")[2], nodeid=shown)

    def collect(self) -> Iterator["ExperimentItem"]:
        """One item, named by the file's path below `experiments/`; of a sweep, `name[01]` … and `name[finalist-1]` …"""
        name = name_of(self.path, experiments_folder(self.config))
        if not is_sweep(self.path):
            yield ExperimentItem.from_parent(self, name=name)
            return
        trials, finalists = sweep_of(self.config, self.path).names()
        if not trials:
            yield SweepItem.from_parent(self, name=name)
        for number, point in enumerate(trials, 1):
            yield TrialItem.from_parent(self, name=name + point, number=number, point=point)
        for rank, point in enumerate(finalists, 1):
            yield FinalistItem.from_parent(self, name=name + point, number=rank, point=point)


class ExperimentItem(pytest.Item):
    """One experiment as a test. It passes when it beats the baseline by more than noise."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.config.pluginmanager.has_plugin("timeout"):
            self.add_marker(pytest.mark.timeout(0))  # no timer around the whole item: each run has its own
        self.point = ""  # of an item of a sweep: `[07]` or `[finalist-1]`
        self.planned: Plan | Exception | None = None
        self.verdict: Verdict | None = None

    def plan(self) -> None:
        """Plan the experiment. This records the baseline before the first experiment that has to train.

        Whatever is wrong with one file is that experiment's own failure: here pytest would end the session.
        """
        try:
            self.planned = self._plan()
        except LeftUnjudged as reason:
            self.planned = reason
        except NotJudged as reason:
            self.planned = NotJudged(one_line(str(reason)), reason.unchanged)
        except Exception as fault:
            self.planned = fault

    def _plan(self) -> "Plan | None":
        return self._with_twin(session_of(self.config).plan(self.path))

    def _with_twin(self, plan: "Plan") -> "Plan":
        """The plan with a note of the experiment's twin, which is also said before the experiment trains."""
        if plan.replayed or not (twin := twins_of(self.config).note(plan)):
            return plan
        session_of(self.config).monitor.say(f"{plan.experiment.name}: {twin}")
        return replace(plan, note="; ".join(filter(None, (plan.note, twin))))

    @property
    def skip_line(self) -> str | None:
        """The line that pytest prints for an experiment that is not judged; None where it is judged."""
        if not isinstance(self.planned, NotJudged):
            return None
        return ("UNCHANGED: " if self.planned.unchanged else "SKIPPED: ") + str(self.planned)

    def setup(self) -> None:
        """Fail if nothing can be judged, for example because the baseline does not train."""
        if isinstance(self.planned, NotJudged | NoExperiment):
            return
        if isinstance(self.planned, UsageError):
            pytest.fail(one_line(str(self.planned)), pytrace=False)
        if isinstance(self.planned, Exception):
            raise self.planned

    def runtest(self) -> None:
        """Judge, and translate the verdict into pytest's words."""
        if isinstance(self.planned, NotJudged):
            pytest.skip(str(self.planned))
        try:
            with uncaptured(self.config):
                self.verdict = verdict = self._judge()
        except NotJudged as reason:
            self.planned = reason if isinstance(reason, LeftUnjudged) else NotJudged(one_line(str(reason)))
            pytest.skip(str(self.planned))
        except UsageError as error:
            pytest.fail(one_line(str(error)), pytrace=False)
        except OSError as error:
            pytest.fail(one_line(f"{error.filename or self.path}: {error.strerror or error}"), pytrace=False)
        numbers = {"val_bpb": verdict.val_bpb, "delta": verdict.delta}
        self.user_properties.append(("verdict", str(verdict.outcome)))
        self.user_properties += [(name, number) for name, number in numbers.items() if number is not None]
        self._translate(verdict)

    def _translate(self, verdict: "Verdict") -> None:
        """End the test as the verdict says: it passes, or fails."""
        from pytest_autoresearch.core.records import Outcome
        from pytest_autoresearch.plugin.words import failure_message

        if verdict.outcome is not Outcome.KEPT:
            pytest.fail(failure_message(verdict), pytrace=False)

    def _judge(self) -> "Verdict":
        from pytest_autoresearch.judging.plan import Plan

        session = session_of(self.config)
        if isinstance(self.planned, NoExperiment):
            return session.broken(self.path, self.planned)
        assert isinstance(self.planned, Plan)
        verdict = session.judge(self.planned)
        if not verdict.replayed:
            twins_of(self.config).add(verdict)
        return verdict

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The file, the line and the name for reports."""
        return self.config.rootpath / self.nodeid.partition("::")[0], 0, self.name


class SweepItem(ExperimentItem):
    """The item of a sweep without trials: it is skipped, with the reason. The base class of trials and finalists.

    `number` counts trials, or ranks finalists. `point` is the end of the item's name: `[07]` or `[finalist-1]`.
    """

    def __init__(self, *, number: int = 0, point: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number
        self.point = point

    @property
    def sweep(self) -> "Sweep":
        """The sweep of the file."""
        return sweep_of(self.config, self.path)

    def _plan(self) -> "Plan | None":
        self.sweep.plan_trial()
        return None


class TrialItem(SweepItem):
    """One trial of a sweep. It passes if it has a score; exit codes speak of what was kept."""

    def _judge(self) -> "Verdict":
        if isinstance(self.planned, NoExperiment):
            return super()._judge()
        return self.sweep.try_point(self.number)

    def _translate(self, verdict: "Verdict") -> None:
        from pytest_autoresearch.core.records import Outcome
        from pytest_autoresearch.judging.words import verdict_line
        from pytest_autoresearch.research.sweep import FAULTS

        if verdict.outcome in FAULTS:
            super()._translate(verdict)
        elif verdict.outcome is not Outcome.TRIED:  # the point lies outside of what works, which is no fault
            pytest.skip(verdict_line(verdict))


class FinalistItem(SweepItem):
    """One of a sweep's best programs, judged on the seeds of the verdict like any experiment."""

    def _plan(self) -> "Plan | None":
        return self.sweep.plan_finalist(self.number)


def is_sweep(path: Path) -> bool:
    """Whether a file has a search space."""
    from pytest_autoresearch.programs.search_space import is_sweep_file

    return is_sweep_file(path)


def sweep_of(config: pytest.Config, path: Path) -> "Sweep":
    """The sweep of a file, made on first use. Nothing of it is read yet."""
    sweeps = config.stash.setdefault(SWEEPS, {})
    if path not in sweeps:
        from pytest_autoresearch.research.sweep import Sweep, SweepOptions

        get = config.getoption
        options = SweepOptions(get("--ar-trials"), get("--ar-sampler"), get("--ar-finalists"))
        sweeps[path] = Sweep(session_of(config), path, options)
    return sweeps[path]


def is_experiment(path: Path, config: pytest.Config) -> bool:
    """Whether a file is an experiment: below the experiments folder of a project that has a track."""
    if not is_experiment_file(path):
        return False
    return experiments_folder(config) in path.parents and has_tracks(config, project_root(config))
