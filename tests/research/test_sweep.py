"""What a sweep decides: what it tries, what it replays, and what goes into the finals. Nothing trains here."""

import importlib.util
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna  # noqa: F401  pytester forgets what a run imports, and it must not load twice
import pytest
from fakes import FakeExecutor, failed, result
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.trial import SEARCH_SEED
from pytest_autoresearch.programs.constants import constants_of
from pytest_autoresearch.referee.executor import JobSpec, RunProgress, RunResult
from pytest_autoresearch.research import sweep
from pytest_autoresearch.research.study import Study

SPACE = """
SEARCH_SPACE = {
    "WIDTH": [8, 16, 32],
    "LEARNING_RATE": log(1e-3, 1e-1),
}
"""


class Landscape(FakeExecutor):
    """Scores a program by its constants: `score(constants)` is a number or a whole result."""

    def __init__(self, root: Path, score: Callable[[dict[str, float]], float | RunResult | BaseException]) -> None:
        super().__init__(root, [], {})
        self.score = score

    def run(self, spec: JobSpec, on_progress: Callable[[RunProgress], None]) -> RunResult:  # type: ignore[override]
        """The score of this seed: seeds differ a little, and in the same way for every program."""
        value = self.score(constants_of(spec.source))
        self.baseline = {spec.seed: value + 0.01 * (spec.seed % 2) if isinstance(value, float) else value}  # type: ignore[assignment]
        return super().run(spec, on_progress)

    @property
    def trained(self) -> list[tuple[str, int]]:
        """(name, seed) of each run."""
        return [(Path(spec.evidence).parent.name.rpartition("-")[0], spec.seed) for spec in self.specs]


def rate_counts(constants: dict[str, float]) -> float:
    """The higher the rate and the wider, the better."""
    return 2.0 - math.log10(constants["LEARNING_RATE"] / 1e-3) / 10 - constants["WIDTH"] / 1000


@pytest.fixture
def fake(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> Landscape:
    project.experiment("sweep", SPACE, doc="Rate and width")
    executor = Landscape(project.path, rate_counts)
    monkeypatch.setattr("pytest_autoresearch.referee.local.LocalExecutor", lambda root: executor)
    return executor


GRID = """
SEARCH_SPACE = {"WIDTH": [8, 16, 32], "BATCH_SIZE": [8, 16]}
CONSTRAINTS = ["WIDTH * BATCH_SIZE * SEQUENCE_LENGTH <= 4096"]
"""


def by_width(constants: dict[str, float]) -> float:
    """The wider the better; the batch counts a little."""
    return 2.0 - constants["WIDTH"] / 100 - constants["BATCH_SIZE"] / 10_000


def grid(project: TinyProject, *arguments: str, trials: int = 9) -> pytest.RunResult:
    return project.run("--ar-sampler", "grid", "--ar-trials", str(trials), *arguments)


def rows(project: TinyProject) -> list[tuple[str, str, str]]:
    """(experiment, status, constants) of each line of the ledger."""
    return [(row["experiment"], row["status"], row["description"].partition(":")[0]) for row in project.rows]


def of_trials(fake: Landscape) -> list[str]:
    """The names that trained on the search seed since the last call."""
    names = [name for name, seed in fake.trained if seed == SEARCH_SEED]
    fake.specs.clear()
    return names


def test_the_best_of_a_sweep_is_judged_on_other_seeds_and_promoted(project: TinyProject, fake: Landscape) -> None:
    done = project.run("--ar-trials", "6", "--ar-finalists", "2")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["autoresearch: sweep.py: 6 trials (tpe), 0 done; 2 finalists"])
    trials = [f"sweep[0{number}]" for number in range(2, 7)]  # the first has the baseline's own constants
    finalists = [(f"sweep[finalist-{rank}]", seed) for rank in (1, 2) for seed in (0, 1)]
    assert fake.trained[:2] == [("baseline", 0), ("baseline", 1)]
    assert fake.trained[2:] == [(name, SEARCH_SEED) for name in ("baseline", *trials)] + finalists
    scores = {row["experiment"]: float(row["val_bpb"]) for row in project.rows if row["status"] == "trial"}
    deltas = {row["experiment"]: float(row["delta"]) for row in project.rows if row["status"] == "trial"}
    assert deltas == pytest.approx({name: score - scores["baseline"] for name, score in scores.items()}, abs=2e-6)
    best = min(scores, key=scores.__getitem__)
    constants = {row["experiment"]: row["description"].partition(":")[0] for row in project.rows}
    assert constants["sweep[finalist-1]"] == constants[best]
    assert [row["status"] for row in project.rows if "finalist" in row["experiment"]] == ["pass", "keep"]
    done.stdout.re_match_lines([rf"sweep\[finalist-1\] .* KEPT +{constants[best]}", r"sweep\[0\d\] .* TRIED +WIDTH="])
    done.stdout.fnmatch_lines(["promoted sweep[[]finalist-1]: *"])
    assert f"autoresearch: sweep[finalist-1]: {constants[best]}" in done.outlines
    kinds = [line[6:14] for line in done.outlines if re.match(r"sweep\[.* \d\.\d{4} ", line)]
    assert kinds[:2] == ["finalist"] * 2  # before the trials, whatever their deltas
    assert "finalist" not in kinds[2:]

    values = dict(word.split("=") for word in constants[best].split())
    promoted = BASELINE
    for name, value in values.items():
        promoted = re.sub(rf"(?m)^{name} = \S+", f"{name} = {value}", promoted)
    assert (project.path / "baseline/cpu/train.py").read_text() == promoted


def test_the_same_sweep_again_trains_nothing_and_a_longer_one_only_what_is_new(
    project: TinyProject, fake: Landscape
) -> None:
    project.run("--ar-trials", "4", "--ar-no-promote")
    assert len(of_trials(fake)) == 4
    before = rows(project)
    again = project.run("--ar-trials", "4", "--ar-no-promote", "-v")
    again.stdout.fnmatch_lines(["autoresearch: sweep.py: 4 trials (tpe), 4 done; 3 finalists"])
    again.stdout.fnmatch_lines(["*::sweep[[]04] TRIED (replayed) * (*) WIDTH=* LEARNING_RATE=*"])
    assert fake.specs == []
    assert rows(project) == before
    project.run("--ar-trials", "6", "--ar-no-promote")
    assert of_trials(fake) == ["sweep[05]", "sweep[06]"]
    assert rows(project)[: len(before)] == before


def test_a_sweep_that_was_cut_short_goes_on_with_the_same_points(project: TinyProject, fake: Landscape) -> None:
    def interrupted(constants: dict[str, float]) -> float | BaseException:
        return KeyboardInterrupt() if len(fake.specs) == 5 else rate_counts(constants)

    fake.score = interrupted  # type: ignore[assignment]
    project.pytester.runpytest_inprocess("experiments", "--ar-trials", "6", "--ar-no-promote", no_reraise_ctrlc=True)
    stopped = constants_of(fake.specs[-1].source)
    assert of_trials(fake) == ["baseline", "sweep[02]", "sweep[03]", "sweep[04]"]
    fake.score = rate_counts
    project.run("--ar-trials", "6", "--ar-no-promote")
    assert constants_of(fake.specs[0].source) == stopped
    assert of_trials(fake) == ["sweep[04]", "sweep[05]", "sweep[06]"]


def test_without_trials_a_sweep_is_one_skipped_item(project: TinyProject, fake: Landscape) -> None:
    done = project.run("-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(
        ["SKIPPED [[]1] experiments/sweep.py: a sweep of 2 constants; --ar-trials N tries N poin*"]
    )
    assert fake.specs == []


def test_a_grid_has_as_many_trials_as_points_and_constraints_cost_nothing(
    project: TinyProject, fake: Landscape
) -> None:
    project.experiment("sweep", GRID)
    fake.score = by_width
    done = grid(project, "--ar-finalists", "0", "--ar-no-promote")
    done.assert_outcomes(passed=5, skipped=1)  # 32 × 16 × 16 > 4096
    done.stdout.fnmatch_lines(["*sweep.py [[]06] SKIPPED: no point is left that meets the constraints*"])
    assert len({spec.source for spec in fake.specs if spec.seed == SEARCH_SEED}) == len(of_trials(fake))


def test_where_nothing_meets_the_constraints_nothing_is_trained(project: TinyProject, fake: Landscape) -> None:
    project.experiment("sweep", GRID.replace("<= 4096", "<= 1"))
    grid(project, trials=2).assert_outcomes(skipped=5)
    assert of_trials(fake) == []


def test_who_does_not_beat_the_baseline_is_no_finalist(project: TinyProject, fake: Landscape) -> None:
    project.experiment("sweep", GRID)
    fake.score = lambda constants: 2.0 + abs(constants["WIDTH"] - 16) / 100 - (constants["BATCH_SIZE"] == 16) / 20
    done = grid(project, "-rs")
    done.stdout.fnmatch_lines(["SKIPPED [[]2] *sweep.py: only 1 trial beat the baseline on the search seed"])
    assert [row["experiment"] for row in project.rows if row["status"] == "keep"] == ["baseline", "sweep[finalist-1]"]


def test_a_program_is_one_finalist_however_many_points_have_it(
    project: TinyProject, fake: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Study.ended
    twice = lambda study: [twin for one in ended(study) for twin in (one, replace(one, number=one.number + 90))]  # noqa: E731
    monkeypatch.setattr(Study, "ended", twice)
    project.run("--ar-trials", "4", "--ar-finalists", "2", "--ar-no-promote")
    finalists = {row["experiment"]: row["program_sha"] for row in project.rows if "finalist" in row["experiment"]}
    assert len(set(finalists.values())) == 2


def test_points_that_do_not_work_are_skipped_and_faults_fail(project: TinyProject, fake: Landscape) -> None:
    project.experiment("sweep", 'SEARCH_SPACE = {"WIDTH": [16, 1, 2, 3, 4, 5, 6]}')
    project.track("alpha = 0.05", "alpha = 0.05\nmax_memory_growth = 0.5")
    ends = {
        1: failed(Outcome.DIVERGED, "loss is NaN"),
        2: failed(Outcome.OUT_OF_MEMORY, "needs 9 GB"),
        3: failed(Outcome.TIMED_OUT, "after 60 s"),
        4: failed(Outcome.CRASHED, "RuntimeError: no"),
        5: failed(Outcome.DISQUALIFIED, "peeks"),
        6: result(0, 1.0, memory_gb=0.9),
    }
    fake.score = lambda constants: ends.get(int(constants["WIDTH"]), 2.0)
    done = grid(project, "-rs")
    done.assert_outcomes(passed=1, skipped=4 + 3, failed=2)
    said = done.stdout.str()
    for outcome in ("DIVERGED", "OUT OF MEMORY", "TIMED OUT", "CRASHED", "DISQUALIFIED"):
        assert re.search(rf"sweep.py \[0\d\] {outcome} WIDTH=\d: ", said), outcome
    assert "DISCARDED 1.0000 WIDTH=6: takes too much memory" in said
    assert "no trial beat the baseline" in said  # the one that takes too much memory is no finalist
    done.stdout.fnmatch_lines(["SKIPPED [[]1] experiments/sweep.py: DIVERGED WIDTH=1: loss is NaN"])
    verbose = grid(project, "-v").stdout.str()
    assert verbose.count("loss is NaN") == 1


def test_a_finalist_that_comes_first_has_all_trials_run(project: TinyProject, fake: Landscape) -> None:
    project.pytester.makeconftest("def pytest_collection_modifyitems(items): items.reverse()")
    done = project.run("--ar-trials", "4", "--ar-finalists", "1", "--ar-no-promote")
    names = [name for name, _ in fake.trained]
    assert names[2:6] == ["baseline", "sweep[02]", "sweep[03]", "sweep[04]"]
    assert names[6] == "sweep[finalist-1]"
    assert len(set(fake.trained)) == len(fake.trained)
    assert done.stdout.str().count("TRIED (replayed") == 4


def test_a_finalist_waits_for_a_trial_that_runs_elsewhere(
    project: TinyProject, fake: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has trial 2: it ends while this one sleeps."""
    taken = {2}
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        assert "sweep[03]" in [name for name, _ in fake.trained]  # what was free did not wait
        assert "sweep[02]" not in [name for name, _ in fake.trained]
        if len(naps) == 3:
            taken.clear()

    monkeypatch.setattr(Study, "is_taken", lambda self, number: number in taken)
    monkeypatch.setattr(sweep, "time", type("Clock", (), {"sleep": staticmethod(nap)}))
    project.run("--ar-trials", "3", "-k", "finalist-1")
    assert naps == [sweep.POLL] * 3


def test_after_a_promotion_only_what_was_kept_is_judged_again(project: TinyProject, fake: Landscape) -> None:
    project.experiment("sweep", 'SEARCH_SPACE = {"WIDTH": [12, 16, 24, 32, 40]}')
    fake.score = lambda constants: 2.0 - constants["WIDTH"] / 100
    grid(project)
    fake.specs.clear()
    fake.score = lambda constants: 1.0 + constants["WIDTH"] / 100
    done = grid(project, "-rs")
    sha = project.rows[0]["program_sha"][:7]
    done.stdout.fnmatch_lines(
        [f"SKIPPED [[]5] *: tried against an earlier baseline, {sha} (--ar-retest tries it anew)"]
    )
    done.stdout.fnmatch_lines(["SKIPPED [[]1] *: the program equals the baseline"])
    assert fake.trained == [(f"sweep[finalist-{rank}]", seed) for rank in (2, 3) for seed in (0, 1)]
    fake.specs.clear()
    grid(project, "--ar-retest", "--ar-finalists", "0")
    assert len(of_trials(fake)) == 5


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ('SEARCH_SPACE = {"WIDTH": (3, 1)}', ":4: WIDTH: `(3, 1)`: the lower end must be below the upper one"),
        ('SEARCH_SPACE = {"WIDHT": [3, 1]}', ":4: SEARCH_SPACE: `WIDHT`: baseline/cpu/train.py has no such constant"),
    ],
)
def test_a_broken_space_crashes_with_its_line_and_the_others_go_on(
    project: TinyProject, fake: Landscape, space: str, line: str
) -> None:
    project.experiment("sweep", space)
    project.experiment("other", "WIDTH = 32")
    done = project.run("--ar-trials", "3", "--ar-finalists", "2")
    done.assert_outcomes(passed=1, failed=1)  # one item, however many trials were asked for
    assert f"CRASHED experiments/sweep.py{line}" in done.stdout.str()
    assert ("sweep", "crash", "sweep.") in rows(project)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--ar-sampler", "grid"], "experiments/sweep.py: SEARCH_SPACE: `LEARNING_RATE`: a grid needs a step"),
        (["--ar-seeds", "1000001"], "--ar-seeds 1000001: a sweep trains on seed 1000000; choose fewer"),
    ],
)
def test_options_that_do_not_fit_a_sweep_are_one_line(
    project: TinyProject, fake: Landscape, arguments: list[str], line: str
) -> None:
    done = project.run("--ar-trials", "1", "--ar-finalists", "0", *arguments)
    done.assert_outcomes(errors=1)
    assert line in done.stdout.str()
    assert fake.specs == []


@pytest.mark.parametrize("arguments", [["--ar-trials", "0"], ["--ar-finalists", "-1"], ["--ar-sampler", "best"]])
def test_bad_options_end_before_anything_runs(project: TinyProject, fake: Landscape, arguments: list[str]) -> None:
    done = project.run(*arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert arguments[0] in done.stderr.str()


def test_without_optuna_each_item_names_the_extra(
    project: TinyProject, fake: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else real(name, *rest)
    )
    done = project.run("--ar-trials", "2", "--ar-finalists", "1")
    done.assert_outcomes(errors=3)
    assert "pip install 'pytest-autoresearch[search]'" in done.stdout.str()
    assert "INTERNALERROR" not in done.stdout.str()
    assert fake.specs == []


def test_another_track_and_another_folder(project: TinyProject, fake: Landscape) -> None:
    project.experiment("elsewhere", f'TRACK = "cuda"\n{SPACE}')
    write(project.path / "experiments/rates/sweep.py", (project.path / "experiments/sweep.py").read_text())
    done = project.run("--ar-trials", "2", "--ar-finalists", "0", "-v")
    done.assert_outcomes(passed=4, skipped=1)
    assert "experiments/rates/sweep.py::rates/sweep[02] TRIED" in done.stdout.str()
    assert "elsewhere.py: 2 trials" not in done.stdout.str()
    assert (project.path / "results/cpu/rates+sweep.journal").exists()


def test_a_quick_look_has_studies_of_its_own_and_promotes_nothing(project: TinyProject, fake: Landscape) -> None:
    done = project.run("--ar-trials", "4", "--ar-budget", "4 steps")
    assert "TRIED (quick look) " in done.stdout.str()
    assert (project.path / "results/cpu@4steps/sweep.journal").exists()
    assert (project.path / "baseline/cpu/train.py").read_text() == BASELINE
    fake.specs.clear()
    project.run("--ar-trials", "4")
    assert len(of_trials(fake)) == 4


def test_structure_and_constants_are_searched_together_and_comments_stay(project: TinyProject, fake: Landscape) -> None:
    project.experiment("sweep", 'SEARCH_SPACE = {"BATCH_SIZE": [4, 8]}\n\nWIDTH = WIDTH * 2  # wider')
    fake.score = by_width
    grid(project)
    assert "BATCH_SIZE = 8  # sequences" in (project.path / "baseline/cpu/train.py").read_text()
    assert "WIDTH = 16 * 2  # wider" in (project.path / "baseline/cpu/train.py").read_text().replace(
        "WIDTH * 2", "16 * 2"
    )


def test_a_program_that_chooses_its_seed_is_disqualified_and_costs_nothing(
    project: TinyProject, fake: Landscape
) -> None:
    project.experiment("sweep", f"{SPACE}\ntorch.manual_seed(3)")
    done = project.run("--ar-trials", "2", "--ar-finalists", "1", "-v")
    line = (project.path / "experiments/sweep.py").read_text().splitlines().index("torch.manual_seed(3)") + 1
    done.assert_outcomes(failed=2, skipped=1)
    assert f"experiments/sweep.py:{line}: `torch.manual_seed(3)`" in done.stdout.str()
    assert of_trials(fake) == ["baseline"]


def test_a_sweep_beside_ordinary_experiments(project: TinyProject, fake: Landscape) -> None:
    project.experiment("wider", "WIDTH = 640")
    done = project.run("--ar-trials", "2", "--ar-finalists", "1")
    assert re.search("(?m)^promoted wider: ", done.stdout.str())


def test_where_trials_are_left_unjudged_the_finalists_are_too(project: TinyProject, fake: Landscape) -> None:
    """Some trials have ended, so a best one could be named; but the session stops before the others."""
    project.run("--ar-trials", "3", "--ar-finalists", "0")
    done = project.run("--ar-trials", "5", "--ar-finalists", "1", "--ar-until", "3")
    done.assert_outcomes(passed=3, skipped=3)
    done.stdout.fnmatch_lines(["stopped after * left unjudged: 3 experiments*"])


def test_a_constraint_on_what_follows_a_key_crashes_with_its_line(project: TinyProject, fake: Landscape) -> None:
    project.experiment(
        "sweep",
        'SEARCH_SPACE = {"WIDTH": [8, 32]}\nCONSTRAINTS = ["INNER <= 64"]\nINNER = 4 * WIDTH\nBATCH_SIZE = INNER',
    )
    done = project.run("--ar-trials", "2", "--ar-finalists", "0", "-v")
    assert "experiments/sweep.py:5: CONSTRAINTS: `INNER <= 64`: `INNER` changes with the keys" in done.stdout.str()
    assert fake.specs == []
