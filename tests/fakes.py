"""An executor that trains nothing, and sessions that judge by it without pytest."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_autoresearch.core.errors import NoExperiment, NotJudged
from pytest_autoresearch.core.records import Outcome, Record, RunStats, Verdict
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.judging.monitor import OnProgress
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.judging.session import Session
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.referee.executor import Isolation, JobSpec, RunProgress, RunResult

Canned = float | RunResult | BaseException
HONEST = {"seconds": 1.0, "cpu_seconds": 1.0, "memory_gb": 0.5, "isolation": "process"}


def result(seed: int = 0, val_bpb: float | None = 2.0, **values: object) -> RunResult:
    """A result as an honest run gives it."""
    digest = [f"torch {seed}", f"numpy {seed}", f"python {seed}"]
    return RunResult(seed, val_bpb, **{**HONEST, "rng_digest": digest, "curve": [2.5, val_bpb], **values})  # type: ignore[arg-type]


def failed(outcome: Outcome, reason: str = "", **values: object) -> RunResult:
    """The result of a run without a score."""
    return result(0, None, failure=outcome, reason=reason, **values)


def verdict_of(**changes: Any) -> Verdict:
    """A discarded experiment's verdict."""
    stats = RunStats.of([result(0, 1.25, seconds=12.34, memory_gb=0.46)])
    verdict = Verdict(
        experiment="norms/rmsnorm",
        description="a tab\tand a\nnewline\r\n",
        track="cpu",
        outcome=Outcome.DISCARDED,
        reason="",
        stats=stats,
        delta=0.01,
        lines_added=3,
        lines_removed=1,
        experiment_sha="e" * 64,
        program_sha="p" * 64,
        baseline_sha="b" * 64,
        key="key",
        platform="platform",
        evidence="results/cpu/norms+rmsnorm-ppppppp",
        finished_at="2026-01-01T00:00:00+00:00",
        baseline_scores=[1.24],
    )
    return replace(verdict, **changes)


class Silent:
    """A monitor that shows nothing and ends nothing."""

    def guard(self, seconds: float) -> AbstractContextManager[None]:
        """No timer."""
        return nullcontext()

    def run_began(self, label: str) -> AbstractContextManager[OnProgress]:
        """Nothing is shown."""
        return nullcontext(lambda progress: None)

    def run_ended(self, label: str, result: RunResult) -> None:
        """Nothing is shown."""

    def say(self, line: str) -> None:
        """Nothing is shown."""

    def preparing(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """Nothing is shown."""
        return nullcontext(lambda stage, done: None)

    def recorded(self, record: Record) -> None:
        """Nothing is shown."""


class FakeExecutor:
    """Does what `canned` says: a score, a result or an exception for each seed, by a text in the program's source.

    The baseline's program is what no text matches. `specs` lists the jobs that it was given.
    """

    def __init__(self, root: Path, baseline: Sequence[Canned], canned: Mapping[str, Sequence[Canned]]) -> None:
        self.root = root
        self.baseline = baseline
        self.canned = dict(canned)
        self.specs: list[JobSpec] = []
        self.kind = "process"

    def isolation(self, wanted: str, track: Track) -> Isolation:
        """What the test says, whatever is wanted."""
        return Isolation(self.kind, f"in a test's {self.kind}")

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:
        """The canned result of the job's program and seed; leaves evidence like a real one."""
        self.specs.append(spec)
        on_progress(RunProgress("training", 0.5))
        outcomes = next((scores for text, scores in self.canned.items() if text in spec.source), self.baseline)
        outcome = outcomes[spec.seed]
        if isinstance(outcome, BaseException):
            raise outcome
        done = replace(outcome, seed=spec.seed) if isinstance(outcome, RunResult) else result(spec.seed, outcome)
        done = replace(done, isolation=self.kind)
        folder = self.root / spec.evidence
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "program.py").write_text(spec.source)
        return done


class Night:
    """What a session did with every experiment of a project: the hooks' part, without pytest."""

    def __init__(
        self, root: Path, executor: FakeExecutor, promote: bool = True, finish: bool = True, **options: Any
    ) -> None:
        project = Project(root, root / "experiments", root / "baseline")
        self.session = Session(project, Options(**options), executor, Silent())
        self.verdicts: dict[str, Verdict] = {}
        self.skipped: dict[str, str] = {}
        before = len(executor.specs)
        self.session.check()
        for path in sorted(project.experiments.rglob("*.py")):
            name = path.relative_to(project.experiments).with_suffix("").as_posix()
            try:
                self.verdicts[name] = self.session.judge(self.session.plan(path))
            except NotJudged as reason:
                self.skipped[name] = str(reason)
                continue
            except NoExperiment as error:
                self.verdicts[name] = self.session.broken(path, error)
            self.session.log.add(name, self.verdicts[name])
        if finish:
            self.session.log.finish(promote)
        self.trained = [
            (Path(spec.evidence).parent.name.rpartition("-")[0], spec.seed) for spec in executor.specs[before:]
        ]
        self.summary = self.session.log.summary()
        self.lines = {name: verdict_line(verdict) for name, verdict in self.verdicts.items()}
