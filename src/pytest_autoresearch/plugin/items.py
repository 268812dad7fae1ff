"""Experiments for pytest: each is a file with one item."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_autoresearch.core.errors import LeftUnjudged, NoExperiment, NotJudged, UsageError
from pytest_autoresearch.core.text import name_of, one_line
from pytest_autoresearch.plugin.session import session_of, twins_of
from pytest_autoresearch.plugin.settings import experiments_folder, has_tracks, project_root, uncaptured

if TYPE_CHECKING:
    from pytest_autoresearch.core.records import Verdict
    from pytest_autoresearch.judging.plan import Plan


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
        """The one item, named by the file's path below `experiments/`."""
        yield ExperimentItem.from_parent(self, name=name_of(self.path, experiments_folder(self.config)))


class ExperimentItem(pytest.Item):
    """One experiment as a test. It passes when it beats the baseline by more than noise."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.config.pluginmanager.has_plugin("timeout"):
            self.add_marker(pytest.mark.timeout(0))  # no timer around the whole item: each run has its own
        self.planned: Plan | Exception | None = None
        self.verdict: Verdict | None = None

    def plan(self) -> None:
        """Plan the experiment. This records the baseline before the first experiment that has to train.

        Whatever is wrong with one file is that experiment's own failure: here pytest would end the session.
        """
        try:
            self.planned = self._with_twin(session_of(self.config).plan(self.path))
        except LeftUnjudged as reason:
            self.planned = reason
        except NotJudged as reason:
            self.planned = NotJudged(one_line(str(reason)), reason.unchanged)
        except Exception as fault:
            self.planned = fault

    def _with_twin(self, plan: "Plan") -> "Plan":
        """The plan with a note of the experiment's twin, which is also said before the experiment trains."""
        if plan.replayed or not (twin := twins_of(self.config).note(plan)):
            return plan
        session_of(self.config).monitor.say(f"{plan.experiment.name}: {twin}")  # type: ignore[attr-defined]
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
        from pytest_autoresearch.core.records import Outcome
        from pytest_autoresearch.plugin.words import failure_message

        if isinstance(self.planned, NotJudged):
            pytest.skip(str(self.planned))
        try:
            with uncaptured(self.config):
                self.verdict = verdict = self._judge()
        except UsageError as error:
            pytest.fail(one_line(str(error)), pytrace=False)
        except OSError as error:
            pytest.fail(one_line(f"{error.filename or self.path}: {error.strerror or error}"), pytrace=False)
        numbers = {"val_bpb": verdict.val_bpb, "delta": verdict.delta}
        self.user_properties.append(("verdict", str(verdict.outcome)))
        self.user_properties += [(name, number) for name, number in numbers.items() if number is not None]
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


def is_experiment(path: Path, config: pytest.Config) -> bool:
    """Whether a file is an experiment: below the experiments folder of a project that has a track."""
    if path.suffix != ".py" or path.name == "conftest.py" or path.name[0] == "_":
        return False
    return experiments_folder(config) in path.parents and has_tracks(config, project_root(config))
