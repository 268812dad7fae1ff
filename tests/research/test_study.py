"""A study: resumed, shared, killed."""

import errno
import json
import multiprocessing
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import digest
from pytest_autoresearch.programs.ranges import Choices, Range
from pytest_autoresearch.programs.search_space import SearchSpace
from pytest_autoresearch.research import samplers
from pytest_autoresearch.research.study import GRID, EndedTrial, Study, size_of_grid

pytest.importorskip("optuna")

SPACE = SearchSpace(
    {"RATE": Range(1e-4, 1e-1, None, True), "BATCH": Choices((8, 16, 32, 64))}, ("RATE * BATCH < LIMIT",)
)
CONSTANTS = {"RATE": 0.004, "BATCH": 16, "LIMIT": 1.0}
GRID_SPACE = SearchSpace({"A": Range(1, 2, 1), "B": Choices(("x", "y", "z"))}, ('A == 1 or B != "y"',))


def opened(folder, sampler="tpe", space=SPACE, constants=CONSTANTS, name="sweep"):
    return Study(folder / "journal", name, space, constants, sampler, lambda text: FileLock(folder / digest(text)))


def tried(study, number, score=1.0, **how):
    with study.point(number) as point:
        study.end(number, score, **how)
    return point.values if point else None


def test_the_programs_own_constants_come_first(tmp_path):
    study = opened(tmp_path)
    assert tried(study, 1) == {"RATE": 0.004, "BATCH": 16}
    assert tried(study, 2) != {"RATE": 0.004, "BATCH": 16}
    elsewhere = opened(tmp_path, constants=CONSTANTS | {"BATCH": 12})
    outside = opened(tmp_path / "b", constants=CONSTANTS | {"BATCH": 12})
    with outside.point(1) as point:
        assert point.values["BATCH"] != 12
    assert elsewhere.ended() == study.ended()


def test_a_study_is_resumed(tmp_path):
    points = [tried(opened(tmp_path / "a"), number, number) for number in range(1, 10)]
    study = opened(tmp_path / "b")
    assert [tried(study, number, number) for number in range(1, 10)] == points
    assert [tried(opened(tmp_path / "a"), number) for number in (3, 9)] == [points[2], points[8]]
    assert opened(tmp_path / "a").ended() == [EndedTrial(n, points[n - 1], float(n)) for n in range(1, 10)]
    assert len({str(point) for point in points}) == 9


def test_another_space_or_sampler_is_another_study(tmp_path):
    tried(opened(tmp_path), 1)
    assert opened(tmp_path, "random").ended() == []
    assert opened(tmp_path, name="other").ended() == []
    assert opened(tmp_path, space=SearchSpace(SPACE.keys)).ended() == []
    assert len(opened(tmp_path).ended()) == 1


def test_how_a_run_ended(tmp_path):
    study = opened(tmp_path)
    tried(study, 1, 2.5)
    tried(study, 2, None)
    tried(study, 3, float("inf"))
    tried(study, 4, None, failed=True)
    tried(study, 5, 2.0, memory_excess=0.5)
    tried(study, 6, 3.0, memory_excess=-1.0)
    study.end(1, 9.9)  # what is known stays
    study.end(7, 1.0)  # was never begun
    assert [(each.number, each.score) for each in study.ended()] == [
        (1, 2.5),
        (2, None),
        (3, None),
        (4, None),
        (5, None),
        (6, 3.0),
    ]
    with study._opened() as inside:
        assert [trial.state.name for trial in inside.trials] == [
            "COMPLETE",
            "PRUNED",
            "PRUNED",
            "FAIL",
            *["COMPLETE"] * 2,
        ]
        assert inside.trials[4].constraints == {"memory": 0.5}


def _killed_while_it_runs(folder, begun):
    with opened(folder).point(2) as point:
        begun.send(point.values)
        signal.pause()


def test_what_a_kill_has_left_is_ended_and_begins_again(tmp_path):
    tried(opened(tmp_path), 1)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_killed_while_it_runs, args=(tmp_path, theirs))
    process.start()
    values = ours.recv()
    study = opened(tmp_path)
    assert study.is_taken(2)
    assert not study.is_taken(1)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not study.is_taken(2)
    again = opened(tmp_path)
    with again._opened() as inside:
        assert [trial.state.name for trial in inside.trials] == ["COMPLETE", "FAIL"]
    assert [each.number for each in again.ended()] == [1]
    with again.point(2) as point:
        assert point.values == values
        assert not again.is_taken(2)  # by another process
        again.end(2, 1.5)
    assert again.ended()[-1] == EndedTrial(2, values, 1.5)


def test_a_run_that_was_taken_for_dead_still_counts(tmp_path):
    study = opened(tmp_path)
    with study.point(1) as point:
        pass
    opened(tmp_path)  # ends it
    study.end(1, 1.5)
    assert study.ended() == [EndedTrial(1, point.values, 1.5)]


def _works(folder, numbers, found):
    study = opened(folder)
    found.send([tried(study, number, float(number)) for number in numbers])


def test_two_processes_share_one_study(tmp_path):
    context = multiprocessing.get_context("fork")
    pipes = [multiprocessing.Pipe() for _ in range(2)]
    workers = [
        context.Process(target=_works, args=(tmp_path, range(first, 15, 2), pipes[first - 1][1])) for first in (1, 2)
    ]
    for worker in workers:
        worker.start()
    points = [point for ours, _ in pipes for point in ours.recv()]
    for worker in workers:
        worker.join()
    assert len({str(point) for point in points}) == 14
    assert [each.number for each in opened(tmp_path).ended()] == list(range(1, 15))


def test_running_points_are_not_proposed_again(tmp_path):
    space = SearchSpace({"A": Choices((1, 2, 3)), "B": Choices((True, False))})
    with ExitStack() as stack:
        studies = [opened(tmp_path, "random", space, {}) for _ in range(7)]
        points = [stack.enter_context(study.point(number)) for number, study in enumerate(studies, 1)]
    assert len({str(point.values) for point in points[:6]}) == 6
    assert points[6] is None  # all six have been given away


def test_a_grid_is_gone_through_once(tmp_path):
    found = [tried(opened(tmp_path, "grid", GRID_SPACE, {"A": 2, "B": "x"}), number) for number in range(1, 7)]
    assert found == [{"A": a, "B": b} for a, b in ((1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "z"))] + [None]
    assert size_of_grid(GRID_SPACE) == 6


def test_nothing_meets_the_constraints(tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "DRAWS", 100)
    with opened(tmp_path, constants=CONSTANTS | {"LIMIT": 0}).point(1) as point:
        assert point is None


def test_vary_may_keep_what_is_outside_its_range(tmp_path):
    space = SearchSpace(SPACE.keys, vary=(1, 1))
    study = opened(tmp_path, "random", space, CONSTANTS | {"RATE": 0.5})
    points = [tried(study, number) for number in range(1, 9)]
    assert any(point["RATE"] == 0.5 for point in points)
    assert all((point["RATE"] == 0.5) != (point["BATCH"] == 16) for point in points)
    assert [each.values for each in study.ended()] == points


@pytest.mark.parametrize(
    ("sampler", "space", "words"),
    [
        ("bayes", SPACE, "no sampler `bayes`; there are tpe, gp, random, grid"),
        ("tpe", SearchSpace(SPACE.keys, vary=(1, 1)), "VARY is for the sampler `random`"),
        ("grid", SPACE, r"`RATE`: a grid needs a step; write \(0.0001, 0.1, step\)"),
        ("grid", SearchSpace({"A": Range(0, GRID, 1)}), "a grid of 10001 combinations; at most 10000"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, sampler, space, words):
    with pytest.raises(UsageError, match=words):
        opened(tmp_path, sampler, space)
    assert not list(tmp_path.iterdir())


def test_without_optuna_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pytest-autoresearch\[search\]'"):
        opened(tmp_path)


def test_a_line_that_a_kill_has_cut_short_is_removed(tmp_path):
    study = opened(tmp_path)
    tried(study, 1)
    for half in ('{"op_', '{"op_code":4,"worker'):
        with (tmp_path / "journal").open("a") as file:
            file.write(half)
        assert len(study.ended()) == 1
    tried(study, 2)
    assert len(opened(tmp_path).ended()) == 2


@pytest.mark.parametrize("garbage", ["garbage", "garbage\n", '{"op_code":4}\n', "[]\n", "\udcff\udcfe\n"])
def test_a_broken_journal_is_left_alone(tmp_path, garbage):
    tried(opened(tmp_path), 1)
    with (tmp_path / "journal").open("a", errors="surrogateescape") as file:
        file.write(garbage)
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(UsageError, match=r"journal: .*move it away to begin anew"):
        opened(tmp_path)
    assert (tmp_path / "journal").read_bytes() == before


@pytest.mark.parametrize(
    "values",
    [{"RATE": 0.01}, {"RATE": 0.01, "BATCH": 8, "X = draw() #": 1}, {"RATE": 0.01, "BATCH": [8]}, None],
    ids=["a key is missing", "a key too many", "no value", "no values"],
)
def test_a_trial_that_is_no_point_of_the_sweep_is_refused(tmp_path, values):
    """A program outside the sandbox may write there, and values become code."""
    study = opened(tmp_path)
    tried(study, 1)
    path = tmp_path / "journal"
    mine = '"values":{"RATE":0.004,"BATCH":16}'
    assert mine in path.read_text()
    path.write_text(path.read_text().replace(mine, f'"values":{json.dumps(values)}'))
    for use in (study.ended, lambda: opened(tmp_path)):
        with pytest.raises(UsageError, match=r"journal: no journal of this sweep; move it away to begin anew"):
            use()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_journal_that_is_no_file_is_one_line(tmp_path, make):
    make(tmp_path / "journal")
    with pytest.raises(UsageError, match="journal: not a regular file; move it away to begin anew"):
        opened(tmp_path)


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    study = opened(tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", mock.Mock(side_effect=full))
    with pytest.raises(UsageError, match="journal: No space left on device"):
        tried(study, 1)
