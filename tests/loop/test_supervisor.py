"""The supervisor, step by step, with a clock, agents and pytest that do what the test says."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from loop_fakes import FakeRound, World, kept, verdict

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, RunStats
from pytest_autoresearch.loop import asking, supervisor
from pytest_autoresearch.loop.status import Finished
from pytest_autoresearch.programs.compare import sha256


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


# -- agents ahead of the device --


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_agents_are_asked_while_fewer_than_ahead_wait(world: World, ahead: int) -> None:
    loop = world.loop(ahead=ahead)
    world.quick = False
    world.add("mine")
    for _ in range(20):
        for each in world.rounds:
            each.over = True  # agents are fast, training is slow
        assert loop.step()
    assert world.training == ["mine"]
    assert [each.name for each in world.queue if each.name != "mine"] == [f"e{n}" for n in range(1, ahead + 1)]
    assert world.at_work == []


def test_ahead_0_asks_only_when_nothing_waits_and_nothing_trains(world: World) -> None:
    loop = world.loop(ahead=0)
    world.quick = False
    world.add("mine")
    loop.step()
    loop.step()
    assert (world.training, world.rounds) == (["mine"], [])
    world.judgings[0].over = True
    loop.step()
    assert len(world.at_work) == 1


def test_several_agents_work_at_once_and_know_their_number(world: World) -> None:
    loop = world.loop(agents=3)
    world.quick = False
    loop.step()
    assert [each.prompt[1:3] for each in world.rounds] == [(1, 3), (2, 3), (3, 3)]
    ideas = [agent.idea for agent in world.rounds[2].prompt[0].agents]
    assert ideas == ["idea 1", "idea 2"]  # of those who work already
    world.rounds[1].over = True
    loop.step()
    assert [each.prompt[1] for each in world.rounds[3:]] == [2]  # the place that became free


def test_a_request_has_the_options_of_the_loop(world: World) -> None:
    world.loop(agent_timeout=60.0, agent_sandbox=True).step()
    request = world.rounds[0].request
    assert (request.timeout, request.sandbox, request.files, request.fix) == (60.0, True, {"brief.md": "brief"}, "")


def test_a_persons_file_joins_and_what_another_loop_judges_does_not(world: World) -> None:
    world.add("theirs", "mine")
    loop = world.loop(experiments=3)
    world.taken.add("theirs")
    loop.step()
    world.add("added")
    world.steps(loop)
    assert "added" in world.judged
    assert "theirs" not in world.judged


# -- workers --


def test_only_one_experiment_is_judged_until_the_baseline_has_a_record(world: World) -> None:
    world.record = None
    world.add("a", "b", "c", "d")
    loop = world.loop(workers=3)
    world.quick = False
    loop.step()
    assert world.training == ["a"]
    world.judgings[0].over, world.record = True, 2.0
    loop.step()
    assert world.training == ["b", "c", "d"]


def test_pytest_gets_the_options(world: World) -> None:
    world.add("a")
    world.loop(pytest_options=("--ar-seeds", "2")).step()
    assert world.judgings[0].options == ("--ar-seeds", "2")


def test_a_verdict_is_one_line_and_a_promotion_another(world: World) -> None:
    world.add("a", "b")
    world.outcomes["b"] = kept("b")
    world.steps(world.loop(experiments=2))
    assert world.said("^a ") == ["a DISCARDED 2.1000 against 2.0000 (+0.0100)"]
    assert world.said("^promoted") == ["promoted b: val_bpb 2.0000 -> 1.9000 (-0.1000, p 1e-07)"]
    assert world.commits == []


def test_each_promotion_is_committed(world: World) -> None:
    world.add("a", "b", "c")
    world.outcomes |= {"a": kept("a"), "b": kept("b", "pass")}
    world.commit = lambda: "promote it"
    world.steps(world.loop(experiments=3, commit=True))
    assert world.commits == ["what was left", "a", "what was left"]  # at the start, of this one, and at the end
    assert world.said("committed: promote it")


def test_a_commit_that_git_refuses_is_trouble_and_is_tried_again(world: World) -> None:
    world.add("a", "b")
    world.outcomes["a"] = kept("a")
    loop = world.loop(experiments=2, commit=True)

    def refuse() -> str:
        raise UsageError("git commit: a hook has refused")

    world.commit = refuse
    loop.step()
    loop.step()
    assert world.troubles == ["no commit: git commit: a hook has refused; the next commit takes the promotion with it"]
    world.commit = lambda: "promote a"
    world.steps(loop)
    assert world.said("committed: promote a")


def test_a_moved_baseline_is_looked_up_anew(world: World) -> None:
    world.add("a", "b")
    loop = world.loop()
    world.quick = False
    loop.step()
    assert world.judgings[0].context is loop._watch.context
    loop.step()
    assert world.judgings[0].context is loop._watch.context
    path = world.context.baseline.path
    path.write_text(path.read_text() + "EXTRA = 1\n")
    world.judgings[0].over = True
    loop.step()
    assert "EXTRA" not in world.judgings[0].context.baseline_program.source
    assert "EXTRA" in world.judgings[1].context.baseline_program.source
    assert len(world.contexts) == 1  # the queue follows by itself


def test_a_track_that_a_person_broke_is_trouble_and_the_loop_goes_on(world: World) -> None:
    loop = world.loop()
    path = world.context.track.folder / "track.toml"
    text = path.read_text()
    path.write_text("nonsense = 1\n")
    assert loop.step()
    assert loop.step()
    assert len(world.troubles) == 1
    assert "nonsense" in world.troubles[0]
    path.write_text(text)
    assert loop.step()


# -- limits --


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_experiments_are_not_overshot(world: World, workers: int) -> None:
    world.add("a", "b", "c", "d", "e", "f")
    loop = world.loop(experiments=3, workers=workers)
    world.steps(loop)
    assert len(world.judged) == 3
    assert world.rounds == []  # as many wait as are needed
    assert loop.summary == ["ended: --experiments 3 have a verdict"]


def test_no_more_experiments_are_asked_for_than_are_needed(world: World) -> None:
    world.steps(world.loop(experiments=3, agents=5, ahead=4))
    assert len(world.rounds) == 3
    assert len(world.judged) == 3


def test_what_did_not_train_is_no_verdict_that_counts(world: World) -> None:
    world.add("again", "broken", "new")
    world.outcomes["again"] = verdict("again", replayed=True)
    world.outcomes["broken"] = verdict("broken", Outcome.CRASHED, stats=RunStats())
    world.steps(world.loop(experiments=1))
    assert world.judged == ["again", "broken", "new"]


def test_after_the_hours_what_trains_is_finished(world: World) -> None:
    world.add("a", "b")
    loop = world.loop(hours=1, ahead=1)
    world.quick = False
    assert loop.step()
    world.now += 3600
    assert loop.step()
    assert world.training == ["a"]
    assert not world.rounds
    assert world.statuses[-1].stopping == "--hours 1 have passed"
    world.judgings[0].over = True
    assert not loop.step()
    assert world.said("^a DISCARDED")
    assert world.judged == ["a"]


def test_at_the_limit_agents_may_work_as_long_as_something_trains(world: World) -> None:
    world.add("a")
    loop = world.loop(hours=1)
    world.quick = False
    loop.step()
    world.now += 3600
    loop.step()
    assert len(world.at_work) == 1
    world.judgings[0].over = True
    assert not loop.step()
    assert world.rounds[0].stopped


def test_patience_ends_it(world: World) -> None:
    world.outcomes["e2"] = kept("e2")
    loop = world.loop(patience=3)
    world.steps(loop)
    assert world.judged == ["e1", "e2", "e3", "e4", "e5"]
    assert loop.summary == ["ended: --patience 3 verdicts without a keep"]


@pytest.mark.parametrize("promoted", [True, False])
def test_a_score_ends_it_promoted_or_kept(world: World, promoted: bool) -> None:
    world.outcomes["e2"] = kept("e2", "keep" if promoted else "pass")
    loop = world.loop(until=1.9)
    world.steps(loop)
    assert world.judged == ["e1", "e2"]
    assert loop.summary == ["ended: --until 1.9 is reached, 1.9000"]


def test_a_score_that_is_reached_already_says_so_and_does_nothing(world: World) -> None:
    world.add("a")
    loop = world.make(until=2.0)
    assert loop.run() == 0
    assert loop.summary == ["--until 2 is reached by the baseline, 2.0000: nothing to do"]
    assert world.judged == []
    assert not world.written


def test_when_the_money_is_spent_what_waits_is_judged(world: World) -> None:
    world.brings = lambda n: Finished(n, 1.0, [f"e{n}", f"f{n}"], dollars=0.6)
    loop = world.loop(dollars=1.0, ahead=4)
    world.steps(loop)
    assert len(world.rounds) == 2
    assert world.judged == ["e1", "f1", "e2", "f2"]
    assert loop.summary == ["ended: --cost 1 is spent, $1.20"]
    assert world.statuses[-1].dollars == pytest.approx(1.2)
    assert "--cost 1" in world.statuses[-2].pause


# -- trouble --


def test_after_fruitless_rounds_it_waits_longer_each_time_and_gives_up(world: World) -> None:
    asked: list[float] = []

    def brings(number: int) -> Finished:
        asked.append(world.now)
        return Finished(number, 1.0, trouble="rate limit exceeded")

    world.brings, world.pace = brings, 3.0
    loop = world.make()
    assert loop.run() == 1
    waits = [round((later - before) / 15) * 15 for before, later in pairwise(asked)]
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1800, 1800]
    assert world.said("asks again in 15 s")
    assert loop.summary == ["ended: 10 rounds in a row brought nothing; the last one: rate limit exceeded"]
    assert world.troubles == ["10 rounds in a row brought nothing; the last one: rate limit exceeded"]


def test_what_waits_is_judged_while_the_agent_is_not_asked(world: World) -> None:
    world.brings = lambda n: Finished(n, 1.0, trouble="no")
    loop = world.loop()
    loop.step()
    loop.step()
    assert "brought nothing" in world.statuses[-1].pause
    world.add("mine")
    loop.step()
    assert world.judged == ["mine"]
    assert len(world.rounds) == 1


def test_a_fruitful_round_begins_anew(world: World) -> None:
    world.brings = lambda n: Finished(n, 1.0, [] if n % 3 else [f"e{n}"], trouble="no" if n % 3 else "")
    world.steps(world.loop(experiments=4), 10_000)
    assert len(world.rounds) == 12


def test_agents_with_the_same_trouble_at_once_are_one_fruitless_round(world: World) -> None:
    world.brings = lambda n: Finished(n, 1.0, trouble="rate limit exceeded")
    loop = world.loop(agents=4)
    loop.step()
    assert len(world.rounds) == 4
    loop.step()
    assert "1 round in a row" in world.statuses[-1].pause
    world.now += 16
    loop.step()
    assert len(world.rounds) == 5  # one of them tries


def test_no_room_for_a_round_is_trouble(world: World) -> None:
    loop = world.loop()
    world.to_raise = OSError(28, "No space left on device", "/tmp/scratch")
    assert loop.step()
    assert world.troubles == [
        "no agent can be asked: /tmp/scratch: No space left on device; tries again in 15 s",
    ]
    world.to_raise = None
    world.now += 16
    assert loop.step()
    assert len(world.rounds) == 1


def test_an_agent_that_worked_and_cannot_be_started_now_is_trouble(world: World) -> None:
    """It is being updated, perhaps."""
    loop = world.loop(ahead=1)
    loop.step()
    world.to_raise = UsageError("no such program: nonsense")
    assert loop.step()
    assert loop.step()
    assert any("no such program" in line for line in world.troubles)


def test_a_round_that_cannot_go_on_is_ended(world: World) -> None:
    world.brings = lambda n: OSError(28, "No space left on device", "round.json")
    loop = world.loop()
    assert loop.step()
    assert loop.step()
    assert world.rounds[0].stopped
    assert world.said("^round 1: stopped .*asks again in 15 s")


def test_an_agent_that_cannot_be_started_ends_all_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("a")
    world.quick = False

    def not_there(*rest: object) -> None:
        raise UsageError("no such program: nonsense")

    monkeypatch.setattr(asking, "Round", not_there)
    loop = world.make()
    with pytest.raises(UsageError, match="nonsense"):
        loop.run()
    assert world.judgings[0].killed
    assert loop.summary == ["ended: no such program: nonsense"]
    assert world.written[-1] == "no such program: nonsense"


def test_an_experiment_without_a_verdict_is_left_alone_after_three_tries(world: World) -> None:
    world.add("bad", "good")
    world.outcomes["bad"] = "pytest was killed"
    world.steps(world.loop(experiments=3))
    assert world.judged.count("bad") == 3
    assert world.troubles[-1] == "bad: no verdict: pytest was killed; left alone until its file is changed"
    assert world.judged[:2] == ["bad", "good"]


def test_an_experiment_that_was_left_alone_is_tried_again_when_its_file_changes(world: World) -> None:
    world.add("bad")
    world.outcomes["bad"] = "pytest was killed"
    world.brings = lambda n: Finished(n, 1.0)
    loop = world.loop()
    for _ in range(8):
        loop.step()
    assert world.judged == ["bad"] * 3
    world.queue[0].path.write_text("from baseline import *\nWIDTH = 5000\n")
    del world.outcomes["bad"]
    loop.step()
    loop.step()
    assert world.said("^bad DISCARDED")


def test_the_same_problem_of_different_experiments_ends_the_loop(world: World) -> None:
    for name in ("a", "b", "c", "d"):
        world.add(name)
        world.outcomes[name] = f"experiments/{name}.py: No space left on device"
    loop = world.make()
    assert loop.run() == 1
    assert world.judged == ["a", "b", "c"]
    assert loop.summary == [
        "ended: 3 experiments in a row could not be judged: experiments/….py: No space left on device"
    ]


def test_different_problems_or_a_verdict_in_between_end_nothing(world: World) -> None:
    world.add("a", "b", "fine", "c", "d")
    world.outcomes |= {"a": "one", "b": "one", "c": "one", "d": "two"}
    world.steps(world.loop(experiments=4))
    assert {"a", "b", "c", "d", "fine"} <= set(world.judged)


def test_pytest_that_cannot_be_started_is_no_verdict(world: World) -> None:
    world.add("a")
    loop = world.loop(ahead=1)
    world.to_raise = OSError(11, "Resource temporarily unavailable", "python")
    loop.step()
    assert world.troubles == ["a: no verdict: python: Resource temporarily unavailable"]
    assert world.taken == set()  # another loop may have it


def test_evidence_that_cannot_be_read_is_no_verdict(world: World) -> None:
    world.add("a")
    world.outcomes["a"] = OSError(5, "Input/output error")
    loop = world.loop()
    loop.step()
    loop.step()
    assert world.troubles
    assert "Input/output error" in world.troubles[0]


# -- crashes go back --


@pytest.fixture
def crashed(world: World) -> Callable[..., None]:
    def save(name: str, outcome: Outcome = Outcome.CRASHED) -> None:
        """A round has brought it, and its verdict is in the ledger."""
        context = world.context
        if not (context.project.experiments / f"{name}.py").exists():
            world.add(name)
        text = (context.project.experiments / f"{name}.py").read_text()
        sha = sha256(text)
        folder = context.relative(context.evidence.of("cpu", name, sha))
        found = verdict(name, outcome, experiment_sha=sha, program_sha=sha, evidence=folder, key=name)
        context.evidence.save(found)
        context.ledger.log(found)
        world.queue = [each for each in world.queue if each.name != name]
        world.brought.setdefault(name, 0)

    return save


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.OUT_OF_MEMORY])
def test_a_crash_goes_back_to_an_agent_with_its_verdict(
    world: World, crashed: Callable[..., None], outcome: Outcome
) -> None:
    crashed("a", outcome)
    loop = world.loop(agents=2)
    world.quick = False
    loop.step()
    first, second = world.rounds
    assert first.request.fix == "a"
    assert first.prompt[3].outcome is outcome
    assert (second.request.fix, second.prompt[3]) == ("", None)  # one agent mends it


@pytest.mark.parametrize(("times", "goes"), [(0, True), (1, True), (2, False)])
def test_a_crash_goes_back_twice_at_most(world: World, crashed: Callable[..., None], times: int, goes: bool) -> None:
    crashed("a")
    world.brought["a"] = times
    world.loop().step()
    assert (world.rounds[0].request.fix == "a") is goes


def test_what_was_changed_or_discarded_or_is_a_persons_does_not_go_back(
    world: World, crashed: Callable[..., None]
) -> None:
    for name, outcome in [("mended", Outcome.CRASHED), ("bad", Outcome.DISCARDED), ("mine", Outcome.CRASHED)]:
        crashed(name, outcome)
    del world.brought["mine"]
    path = world.context.project.experiments / "mended.py"
    path.write_text(path.read_text() + "# mended\n")
    world.loop().step()
    assert world.rounds[0].request.fix == ""


# -- the end --


def test_ctrl_c_once_ends_agents_and_lets_finish_what_trains(world: World) -> None:
    world.add("a", "b")
    loop = world.loop()
    world.quick = False
    loop.step()
    loop._signals.interrupts = 1
    assert loop.step()
    assert all(each.stopped for each in world.rounds)
    assert world.training == ["a"]
    world.judgings[0].over = True
    assert not loop.step()
    loop.close()
    assert loop.summary == ["ended: Ctrl-C"]
    assert world.judged == ["a"]
    assert not world.judgings[0].killed


def test_ctrl_c_twice_ends_all_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("a", "b")
    loop = world.make()
    world.quick = False

    def interrupt(seconds: float) -> None:
        loop._signals.interrupts += 1

    monkeypatch.setattr(supervisor, "sleep", interrupt)
    assert loop.run() == 130
    assert world.judgings[0].killed
    assert loop.summary == ["ended: Ctrl-C twice"]


@pytest.mark.parametrize("method", ["show", "event"])
def test_nobody_to_read_is_like_a_hang_up(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    world.add("a")
    world.quick = False
    loop = world.make()

    def gone(what: object) -> None:
        if world.judgings:
            raise OSError(5, "Input/output error")

    setattr(world, method, gone)
    if method == "event":
        monkeypatch.setattr(FakeRound, "step", lambda self: self._finish(Finished(1, 1.0, ["b"])))
    assert loop.run() == 129
    assert world.judgings[0].killed


def test_it_begins_with_what_killed_loops_left(world: World) -> None:
    world.left = [Finished(7, 12.0, ["rope"])]
    world.add("rope")
    world.loop()
    assert world.said("round 7: brought rope in 12 s .*killed")
    assert world.said("1 waits: rope; judged first")


def test_the_first_lines_say_the_setting(world: World) -> None:
    world.add("a", "b")
    world.loop(experiments=12, hours=8.0, dollars=5.0)
    assert world.events == [
        "track cpu, 12 steps a run, 2 seeds",
        "baseline baseline/cpu/train.py: val_bpb 2.0000",
        "experiments run in: in a test's sandbox",
        "agent fake, at most 30 min a session",
        "no program.md tells the agent how to write an experiment: `autoresearch init` writes one",
        "until 12 verdicts, 8 h, $5.00 are spent on agents or Ctrl-C",
        "2 wait: a, b; judged first",
    ]


def test_the_state_is_shown_at_each_step(world: World) -> None:
    world.add("a", "b", "c")
    loop = world.loop(workers=2)
    world.quick = False
    loop.step()
    world.now += 10
    world.judgings[1].stage = ""
    loop.step()
    status = world.statuses[-1]
    assert [run.experiment for run in status.runs] == ["a", "b"]
    assert (status.first, status.best, status.waiting) == (2.0, 2.0, ["c"])
    assert status.busy == pytest.approx(0.5)  # one of two workers
    assert status.hours == pytest.approx(10 / 3600)


def test_the_account_is_written_after_each_event(world: World) -> None:
    world.add("a")
    loop = world.loop(experiments=1)
    world.steps(loop)
    assert len(world.written) >= 2
    assert world.written[-1] == "--experiments 1 have a verdict"


def test_an_account_that_cannot_be_written_is_said_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("a", "b")
    loop = world.loop(experiments=2)

    def full(status: object, why: str = "") -> None:
        raise OSError(28, "No space left on device", "nights/1.md")

    monkeypatch.setattr(loop._night, "write", full)
    world.steps(loop)
    assert len(world.said("account of this loop cannot be written")) == 1
