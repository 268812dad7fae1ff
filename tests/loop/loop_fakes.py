"""A world for a supervisor: agents, pytest, queue, clock and display that do what a test says, without a process."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeExecutor, result, verdict_of
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.core.records import Outcome, RunStats, Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import asking, supervisor, watch, workers
from pytest_autoresearch.loop.options import LoopOptions
from pytest_autoresearch.loop.presets import Preset, Usage
from pytest_autoresearch.loop.queue import Waiting
from pytest_autoresearch.loop.round import Request
from pytest_autoresearch.loop.status import AgentStatus, Finished, RunStatus, Status
from pytest_autoresearch.loop.supervisor import Supervisor

AGENT = Preset("fake", ("fake",), (), lambda text: Usage(), says_dollars=True)


def verdict(name: str, outcome: Outcome = Outcome.DISCARDED, **changes: Any) -> Verdict:
    """A verdict of an experiment that trained once."""
    score = None if outcome in (Outcome.CRASHED, Outcome.OUT_OF_MEMORY) else 1.9 if outcome is Outcome.KEPT else 2.1
    stats = RunStats.of([result(0, score)])
    values = {"experiment": name, "outcome": outcome, "stats": stats, "baseline_scores": [2.0], **changes}
    return verdict_of(**values)


def kept(name: str, status: str = "keep", **changes: Any) -> Verdict:
    """A verdict of an experiment that was kept, and promoted unless the status says otherwise."""
    return verdict(name, Outcome.KEPT, status=status, delta=-0.1, p_value=1e-7, **changes)


class World:
    """Everything around a supervisor. A judging or a round ends when the test says so, or at once if `quick`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pace = 0.0  # seconds that a pause takes, if not as long as the loop asks for
        self.quick = True
        self.record: float | None = 2.0
        self.outcomes: dict[str, Verdict | str | Exception] = {}  # by experiment; a text is a problem
        self.brings: Callable[[int], Finished | Exception] = lambda n: Finished(n, 1.0, [f"e{n}"])
        self.to_raise: Exception | None = None  # when a round or a process is to be started
        self.queue: list[Waiting] = []
        self.taken: set[str] = set()  # by other loops
        self.judgings: list[FakeJudging] = []
        self.rounds: list[FakeRound] = []
        self.contexts: list[Context] = []
        self.events: list[str] = []
        self.statuses: list[Status] = []
        self.troubles: list[str] = []
        self.written: list[str] = []
        self.commits: list[str] = []
        self.commit: Callable[[], str] = lambda: ""
        self.left: list[Finished] = []
        self.brought: dict[str, int] = {}
        write(root / "baseline/cpu/track.toml", TRACK)
        write(root / "baseline/cpu/train.py", BASELINE)
        self.executor = FakeExecutor(root, [2.0], {})
        self.executor.kind = "sandbox"
        project = Project(root, root / "experiments", root / "baseline")
        self.context = Context(project, Options(), self.executor)
        patch = monkeypatch.setattr
        patch(watch, "Queue", lambda context: FakeQueue(self, context))
        patch(watch, "baseline_val_bpb", lambda context: self.record)
        patch(workers, "Judging", lambda *rest: FakeJudging(self, *rest))
        patch(asking, "Round", lambda *rest: FakeRound(self, *rest))
        patch(asking, "scratch_files", lambda context: {"brief.md": "brief"})
        patch(asking, "make_prompt", lambda context, status, refused, number, of, crash: (status, number, of, crash))
        patch(asking, "brought_by_rounds", lambda context: self.brought)
        patch(supervisor, "complete_rounds", lambda context: self.left)
        patch(supervisor, "Night", lambda *rest: FakeNight(self))
        patch(supervisor, "commit_promotion", lambda context, verdict: self._committed(verdict.experiment))
        patch(supervisor, "commit_uncommitted", lambda context: self._committed("what was left"))
        patch(supervisor, "check", lambda *rest: None)
        patch(supervisor, "sleep", self._sleep)

    def loop(self, **options: Any) -> Supervisor:
        """A supervisor that has begun."""
        loop = self.make(**options)
        assert loop.begin()
        return loop

    def make(self, **options: Any) -> Supervisor:
        return Supervisor(self.context, AGENT, LoopOptions(**options), self, clock=lambda: self.now)

    def add(self, *names: str) -> None:
        """Put experiments into the project."""
        for name in names:
            path = self.context.project.experiments / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"from baseline import *\nWIDTH = {len(self.queue) + 100}  # {name}\n")
            if all(each.name != name for each in self.queue):
                self.queue.append(Waiting(name, path))

    def steps(self, loop: Supervisor, at_most: int = 1000) -> int:
        """Step until the loop ends. Returns how many steps it took."""
        for number in range(1, at_most + 1):
            if not loop.step():
                loop.close()
                return number
            self._sleep(0.2)
        raise AssertionError(f"goes on after {at_most} steps: {self.events}")

    def _sleep(self, seconds: float) -> None:
        self.now += self.pace or seconds

    def _committed(self, what: str) -> str:
        subject = self.commit()
        self.commits.append(what)
        return subject

    @property
    def judged(self) -> list[str]:
        """The experiments that pytest was started for, in order."""
        return [judging.waiting.name for judging in self.judgings]

    @property
    def training(self) -> list[str]:
        return [judging.waiting.name for judging in self.judgings if not judging.over]

    @property
    def at_work(self) -> list["FakeRound"]:
        return [each for each in self.rounds if not each.over]

    def said(self, pattern: str) -> list[str]:
        return [line for line in self.events if re.search(pattern, line)]

    # -- a display --

    def event(self, line: str) -> None:
        self.events.append(line)

    def show(self, status: Status) -> None:
        self.statuses.append(status)

    def close(self) -> None:
        self.events.append("closed")


class FakeClaim:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        world.taken.add(name)

    def release(self) -> None:
        self.world.taken.discard(self.name)


class FakeQueue:
    def __init__(self, world: World, context: Context) -> None:
        self.world = world
        world.contexts.append(context)

    def waiting(self) -> list[Waiting]:
        return [each for each in self.world.queue if each.name not in self.world.taken]

    def claim(self, waiting: Waiting) -> FakeClaim | None:
        return None if waiting.name in self.world.taken else FakeClaim(self.world, waiting.name)


class FakeJudging:
    """It reaches the verdict that the world has for it, else a discarded one, and then the experiment waits no more."""

    def __init__(
        self, world: World, context: Context, waiting: Waiting, claim: FakeClaim, options: Sequence[str]
    ) -> None:
        if world.to_raise:
            raise world.to_raise
        self.world, self.context, self.waiting, self.options = world, context, waiting, options
        self.over = self.killed = False
        self.stage = "training"
        world.judgings.append(self)

    @property
    def status(self) -> RunStatus:
        return RunStatus(self.waiting.name, stage=self.stage)

    def poll(self) -> bool:
        self.over = self.over or self.world.quick
        return self.over

    def verdict(self) -> Verdict | None:
        outcome = self.world.outcomes.get(self.waiting.name, verdict(self.waiting.name))
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, str):
            return None
        self.world.queue = [each for each in self.world.queue if each.name != self.waiting.name]
        return outcome

    def problem(self) -> str:
        return str(self.world.outcomes[self.waiting.name])

    def kill(self) -> None:
        self.over = self.killed = True


class FakeRound:
    """It ends with what the world says that it brings."""

    def __init__(self, world: World, context: Context, agent: Preset, request: Request) -> None:
        if world.to_raise:
            raise world.to_raise
        self.world, self.request = world, request
        self.number = len(world.rounds) + 1
        self.over = self.stopped = False
        self.prompt: Any = request.prompt({})
        world.rounds.append(self)

    @property
    def status(self) -> AgentStatus:
        return AgentStatus(self.number, 1.0, idea=f"idea {self.number}")

    def step(self) -> Finished | None:
        self.over = self.over or self.world.quick
        return self._finish(self.world.brings(self.number)) if self.over else None

    def stop(self) -> Finished:
        self.over = self.stopped = True
        return Finished(self.number, 1.0, trouble="stopped")

    def _finish(self, brought: Finished | Exception) -> Finished:
        if isinstance(brought, Exception):
            raise brought
        self.world.add(*brought.files)
        return replace(brought, fixes=self.request.fix)


class FakeNight:
    def __init__(self, world: World) -> None:
        self.world = world

    def add_verdict(self, verdict: Verdict) -> None:
        pass

    def add_round(self, finished: Finished) -> None:
        pass

    def add_trouble(self, line: str) -> None:
        self.world.troubles.append(line)

    def write(self, status: Status, why_ended: str = "") -> None:
        self.world.written.append(why_ended)

    def summary(self, status: Status, why_ended: str) -> list[str]:
        return [f"ended: {why_ended}"]
