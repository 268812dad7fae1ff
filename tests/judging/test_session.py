"""What a session decides: which experiments to judge, what to replay, log and promote. Nothing trains here."""

import json
from pathlib import Path

import pytest
from fakes import FakeExecutor, Silent, failed, result
from filelock import Timeout
from tiny_project import BASELINE, TinyProject, write

from pytest_autoresearch.cli import main as autoresearch
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.evidence import Evidence
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.judging.session import Session

GOOD, BETTER, BAD = [1.9, 1.92], [1.8, 1.82], [2.3]


@pytest.fixture
def fake(project: TinyProject) -> FakeExecutor:
    """Three experiments: of two that are kept one is better."""
    for name in ("good", "better", "bad"):
        project.idea(name)
    return project.fake(good=GOOD, better=BETTER, bad=BAD)


def statuses(project: TinyProject) -> list[tuple[str, str]]:
    return [(row["experiment"], row["status"]) for row in project.rows]


def train_py(project: TinyProject) -> Path:
    return project.path / "baseline/cpu/train.py"


def record(project: TinyProject) -> dict:  # type: ignore[type-arg]
    """The only record in baseline.json."""
    (found,) = json.loads((project.path / "baseline/cpu/baseline.json").read_text())["records"].values()
    return dict(found)


# -- a night --


def test_the_best_is_promoted_and_what_it_outran_is_tried_on_top_of_it(
    project: TinyProject, fake: FakeExecutor
) -> None:
    first = project.night(fake)
    both = [(name, seed) for name in ("baseline", "better", "good") for seed in (0, 1)]
    assert first.trained == [*both[:2], ("bad", 0), *both[2:]]
    assert first.summary.promotion
    assert first.summary.promotion.verdict.experiment == "better"
    assert (first.summary.promotion.before, first.summary.promotion.after) == pytest.approx((2.01, 1.81))
    assert statuses(project) == [("baseline", "keep"), ("bad", "discard"), ("good", "pass"), ("better", "keep")]
    assert "# better #" in train_py(project).read_text()
    assert record(project)["stats"]["val_bpb"] == BETTER

    fake.canned = {"# good #": [1.7, 1.72]}
    second = project.night(fake)
    assert second.skipped == {
        "bad": f"discarded against an earlier baseline, {first.verdicts['bad'].baseline_sha[:7]} "
        "(--ar-retest judges it anew)",
        "better": "the program equals the baseline",
    }
    assert second.trained == [("good", 0), ("good", 1)]
    assert second.verdicts["good"].baseline_scores == BETTER
    assert statuses(project)[-1] == ("good", "keep")


def test_replayed_verdicts_train_nothing_and_may_be_promoted_later(project: TinyProject, fake: FakeExecutor) -> None:
    first = project.night(fake, promote=False)
    assert first.summary.notes == ["nothing promoted: interrupted"]
    rows = project.rows
    again = project.night(fake, promote=False)
    assert again.trained == []
    assert again.lines["good"] == "KEPT (replayed) 1.9100 against 2.0100 (-0.1000, p 0.0025)"
    assert again.lines["bad"].startswith("DISCARDED (replayed) 2.3000 against 2.0000 on seed 0 (+0.3000, p 0.99)")
    assert project.rows == rows
    assert train_py(project).read_text() == BASELINE
    promoting = project.night(fake)
    assert promoting.trained == []
    assert promoting.summary.promotion
    assert statuses(project) == [*[(row["experiment"], row["status"]) for row in rows], ("better", "keep")]


def test_what_was_kept_before_a_session_died_is_promoted_by_the_next(project: TinyProject, fake: FakeExecutor) -> None:
    project.night(fake, finish=False)
    assert statuses(project) == [("baseline", "keep"), ("bad", "discard")]
    assert project.night(fake).summary.promotion
    assert statuses(project)[2:] == [("good", "pass"), ("better", "keep")]


def test_rerun_and_retest_train_again(project: TinyProject, fake: FakeExecutor) -> None:
    project.night(fake, promote=False)
    assert len(project.night(fake, promote=False, rerun=True).trained) == 5
    project.night(fake)
    retested = project.night(fake, retest=True)
    assert ("bad", 0) in retested.trained
    assert retested.verdicts["bad"].baseline_scores == BETTER


def test_another_setting_than_the_tracks_promotes_nothing(project: TinyProject, fake: FakeExecutor) -> None:
    look = project.night(fake, seeds=1)
    assert look.summary.notes == ["nothing promoted: --ar-seeds is below the track's 2"]
    assert look.lines["good"] == "KEPT (quick look) 1.9000 against 2.0000 (-0.1000)"
    look = project.night(fake, seeds=1, budget="4 steps")
    assert look.summary.notes == ["nothing promoted: --ar-budget is not the track's 12 steps"]
    assert look.summary.track == "cpu@4steps"
    assert train_py(project).read_text() == BASELINE
    full = project.night(fake)
    assert full.trained[0] == ("baseline", 1)  # the seed that its record lacked
    assert full.summary.promotion


def test_a_budget_that_is_nearly_the_tracks_is_not_the_tracks(project: TinyProject, fake: FakeExecutor) -> None:
    project.track('train = "12 steps"', 'train = "5e11 flop"')
    nearly = project.night(fake, budget="5.000001e11 flop")
    assert nearly.session.context.track.name == "cpu@500000100000.0flop"
    assert nearly.summary.promotion is None
    own = project.night(fake, budget="5e11 flop")
    assert own.session.context.track.name == "cpu"
    assert own.summary.promotion


def test_a_changed_rule_judges_anew_and_an_old_one_comes_back(project: TinyProject, fake: FakeExecutor) -> None:
    first = project.night(fake, promote=False)
    project.track('limit = "60 s"', 'limit = "70 s"')  # a verdict may depend on it, when it was "timed out"
    assert len(project.night(fake, promote=False).trained) == 5
    project.track('limit = "70 s"', 'limit = "60 s"')
    back = project.night(fake, promote=False)
    assert back.trained == []
    assert {v.key for v in back.verdicts.values()} == {v.key for v in first.verdicts.values()}


def test_an_experiment_of_another_track_is_skipped_before_anything_else(
    project: TinyProject, fake: FakeExecutor
) -> None:
    project.track('corpus = "text"', 'corpus = "hf:nobody/nothing"')  # which nobody is asked for
    for name in ("good", "better", "bad"):
        project.experiment(name, 'TRACK = "cuda"\nUNKNOWN = 3')
    assert set(project.night(fake).skipped.values()) == {"only for track cuda; this is cpu"}


def test_an_experiment_for_a_track_is_also_for_those_made_of_it(project: TinyProject, fake: FakeExecutor) -> None:
    (project.path / "baseline/cpu").rename(project.path / "baseline/cpu-4gb")
    project.idea("here", 'TRACK = "cpu"')
    project.idea("elsewhere", 'TRACK = "cp"')
    night = project.night(fake, track="cpu-4gb")
    assert "here" in night.verdicts
    assert night.skipped == {"elsewhere": "only for track cp; this is cpu-4gb"}


# -- one program, judged once --


def test_a_program_that_was_judged_under_another_name_is_replayed(project: TinyProject, fake: FakeExecutor) -> None:
    project.night(fake)
    source = (project.path / "experiments/bad.py").read_text()
    (project.path / "experiments/bad.py").unlink()
    renamed = source.replace('"""bad."""', '"""Another description."""')
    renamed = renamed.replace("WIDTH = ", "WIDTH  =  (").replace("  # bad #", ")  # bad #")
    write(project.path / "experiments/twin.py", renamed)
    rows = project.rows
    night = project.night(fake, retest=True)
    assert ("twin", 0) in night.trained  # on the new baseline nobody has judged it
    fake.specs.clear()
    write(project.path / "experiments/triplet.py", renamed)
    night = project.night(fake)
    assert night.trained == []
    assert night.verdicts["triplet"].same_as == "twin"
    assert night.lines["triplet"].startswith("DISCARDED (replayed, same program as twin) 2.3000 against 1.8000")
    assert [row["experiment"] for row in project.rows[len(rows) :]] == ["good", "twin"]


def test_two_names_of_one_program_in_one_session(project: TinyProject) -> None:
    project.idea("one")
    write(project.path / "experiments/two.py", (project.path / "experiments/one.py").read_text().replace("one.", "2"))
    night = project.night(project.fake(one=GOOD))
    assert [name for name, _ in night.trained] == ["baseline", "baseline", "one", "one"]
    assert night.lines["two"].startswith("KEPT (replayed, same program as one) ")
    assert night.summary.promotion
    assert statuses(project) == [("baseline", "keep"), ("one", "keep")]


def test_two_sessions_with_other_settings_do_not_write_to_one_folder_at_once(project: TinyProject) -> None:
    """The key of a verdict has the number of seeds; the folder of its runs has not."""
    project.idea("good")
    asked: list[bool] = []

    class Asking(FakeExecutor):
        def run(self, spec, on_progress):  # type: ignore[no-untyped-def]
            folder = str(Path(spec.evidence).parent)
            try:
                Evidence(project.path).lock(folder).acquire(timeout=0)
                asked.append("baseline-" in folder)
            except Timeout:
                asked.append("good-" in folder)
            return super().run(spec, on_progress)

    project.night(Asking(project.path, [2.0, 2.02], {"# good #": GOOD}))
    assert asked == [True] * 4


def test_names_that_look_alike_share_no_evidence(project: TinyProject) -> None:
    names = ["a/b", "a+b", "a--b", "a%2Bb", "a/b/c"]
    for name in names:
        project.experiment(name, "WIDTH = 3")
    project.night(project.fake([2.0, 2.02]), rerun=True)
    folders = {path.name.rpartition("-")[0] for path in (project.path / "results/cpu").iterdir()}
    assert len(folders - {"baseline"}) == len(names)
    assert all("/" not in name for name in folders)


# -- records --


def test_a_verdict_by_another_record_is_neither_replayed_nor_promoted(project: TinyProject) -> None:
    """A record that was too bad let 2.2 pass; the new record does not."""
    project.idea("good")
    fake = project.fake([2.5, 2.52], good=[2.2, 2.22])
    assert project.night(fake, promote=False).verdicts["good"].outcome is Outcome.KEPT
    fake.baseline = [2.1, 2.12]
    night = project.night(fake, record=True)
    assert night.verdicts["good"].outcome is Outcome.DISCARDED
    assert not night.verdicts["good"].replayed
    assert night.summary.promotion is None
    assert train_py(project).read_text() == BASELINE


def test_a_record_that_changes_between_verdict_and_promotion_stops_it(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake([2.5, 2.52], good=[2.2, 2.22])
    night = project.night(fake, finish=False)
    fake.baseline = [2.1, 2.12]
    (project.path / "experiments/good.py").rename(project.path / "good.py")
    project.idea("other")
    project.night(fake, record=True, promote=False)
    night.session.log.finish(promote=True)
    assert night.session.log.summary().promotion is None
    assert "its record has changed meanwhile" in night.session.log.summary().notes[-1]
    assert train_py(project).read_text() == BASELINE


def test_a_verdict_without_the_sandbox_is_none_with_it(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake(good=GOOD)
    project.night(fake, promote=False)
    fake.kind = "sandbox"
    night = project.night(fake, promote=False)
    assert night.trained == [("good", 0), ("good", 1)]
    assert night.verdicts["good"].stats.isolation == ["sandbox", "sandbox"]
    fake.kind = "process"
    assert project.night(fake, promote=False).trained == []


def test_a_record_grows_seed_by_seed_and_keeps_what_it_had(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake([2.0, KeyboardInterrupt()], good=GOOD)
    with pytest.raises(KeyboardInterrupt):
        project.night(fake)
    first = record(project)["stats"]
    assert first["val_bpb"] == [2.0]
    fake.baseline = [9.9, 2.02]
    fake.kind = "sandbox"
    project.night(fake, promote=False)
    stats = record(project)["stats"]
    assert stats["val_bpb"] == [2.0, 2.02]
    assert stats["curve"] == [[2.5, 2.0], [2.5, 2.02]]
    assert stats["isolation"] == ["process", "sandbox"]


def test_a_baseline_that_does_not_train_is_one_problem_and_tried_once(project: TinyProject) -> None:
    for name in ("one", "two"):
        project.idea(name)
    fake = project.fake([failed(Outcome.CRASHED, "RuntimeError: no luck")])
    folders = Project(project.path, project.path / "experiments", project.path / "baseline")
    session = Session(folders, Options(), fake, Silent())
    for name in ("one", "two"):
        with pytest.raises(UsageError, match=r"^baseline/cpu/train.py: the baseline itself crashed on seed 0: Runt"):
            session.plan(project.path / f"experiments/{name}.py")
    assert len(fake.specs) == 1


@pytest.mark.parametrize("text", [None, "another program"])
def test_what_was_kept_is_trained_again_where_its_program_is_gone(
    project: TinyProject, fake: FakeExecutor, text: str | None
) -> None:
    project.night(fake, promote=False)
    (program,) = project.path.glob("results/cpu/better-*/seed-0/program.py")
    program.write_text(text) if text else program.unlink()
    night = project.night(fake)
    assert night.trained == [("better", 0), ("better", 1)]
    assert night.summary.promotion
    assert night.summary.promotion.verdict.experiment == "better"


def test_a_quick_look_becomes_what_the_track_asks_for(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake(good=GOOD)
    assert "(quick look)" in project.night(fake, seeds=1).lines["good"]
    project.track("seeds = 2", "seeds = 1")
    night = project.night(fake)
    assert night.lines["good"].startswith("KEPT (replayed) ")
    assert night.summary.promotion


# -- a baseline that was changed by hand --


def test_a_changed_baseline_is_one_error_before_anything_trains(project: TinyProject, fake: FakeExecutor) -> None:
    project.night(fake, promote=False)
    train_py(project).write_text(BASELINE.replace("WIDTH = 16", "WIDTH = 99"))
    fake.specs.clear()
    with pytest.raises(UsageError) as error:
        project.night(fake)
    assert str(error.value).startswith("baseline/cpu/train.py: changed in `WIDTH` since its record of 20")
    assert str(error.value).endswith(
        "(2.0100 val_bpb): `autoresearch new NAME --from-edit` makes the change an experiment and puts the file back; "
        "--ar-record accepts it unjudged"
    )
    assert fake.specs == []

    accepted = project.night(fake, record=True, promote=False)
    assert accepted.trained[:2] == [("baseline", 0), ("baseline", 1)]
    last = [row for row in project.rows if row["experiment"] == "baseline"][-1]
    assert last["description"] == "baseline, changed by hand"
    assert project.night(fake, promote=False).trained == []


def test_a_change_by_hand_is_recorded_even_where_nothing_is_judged(project: TinyProject) -> None:
    project.idea("bad")
    fake = project.fake(bad=BAD)
    project.night(fake)
    train_py(project).write_text(BASELINE.replace("WIDTH = 16", "WIDTH = 99"))
    night = project.night(fake, record=True)
    assert night.skipped["bad"].startswith("discarded against an earlier baseline")
    assert night.trained == [("baseline", 0), ("baseline", 1)]
    assert project.night(fake).trained == [], "and is no error any more"


def test_a_quick_look_at_a_change_by_hand_keeps_the_record_of_the_program_before(project: TinyProject) -> None:
    project.idea("bad")
    fake = project.fake(bad=BAD)
    project.night(fake)
    whole = record(project)
    for look in ({"seeds": 1}, {"budget": "5 steps"}):
        train_py(project).write_text(BASELINE.replace("WIDTH = 16", "WIDTH = 99"))
        project.night(fake, record=True, retest=True, **look)
        train_py(project).write_text(BASELINE)
        night = project.night(fake)
        assert night.trained == []
        assert night.verdicts["bad"].baseline_scores == whole["stats"]["val_bpb"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("eval_tokens = 512", "eval_tokens = 8", "eval_tokens = 8: must be at least sequence_length = 16"),
        (
            "eval_tokens = 512",
            "eval_tokens = 99999999",
            "corpus 'text': eval_tokens = 99999999: its held-out text gives",
        ),
        ('corpus = "text"', 'corpus = "gone"', 'data.corpus = "gone": gone: no such file or folder; corpus must be'),
    ],
)
def test_an_error_of_the_text_names_the_file_and_the_key(project: TinyProject, old: str, new: str, says: str) -> None:
    project.idea("good")
    project.track(old, new)
    with pytest.raises(UsageError) as caught:
        project.night(project.fake())
    assert str(caught.value).startswith(f"baseline/cpu/track.toml: {says}")


def baseline_lines(project: TinyProject) -> list[tuple[str, str]]:
    return [(row["track"], row["description"]) for row in project.rows if row["experiment"] == "baseline"]


def test_accepted_by_a_quick_look_is_by_hand_all_the_same(project: TinyProject) -> None:
    project.idea("bad")
    fake = project.fake(bad=BAD)
    project.night(fake)
    train_py(project).write_text(BASELINE.replace("WIDTH = 16", "WIDTH = 99"))
    project.night(fake, record=True, retest=True, budget="5 steps")
    project.night(fake, retest=True)
    assert baseline_lines(project) == [
        ("cpu", "baseline"),
        ("cpu@5steps", "baseline, changed by hand"),
        ("cpu", "baseline, changed by hand"),
    ]


def test_going_back_to_an_earlier_baseline_is_by_hand(project: TinyProject) -> None:
    project.idea("good")
    fake = project.fake(good=GOOD)
    assert project.night(fake).summary.promotion
    train_py(project).write_text(BASELINE)
    with pytest.raises(UsageError, match="changed in `WIDTH` since its record"):
        project.night(fake)
    project.night(fake, record=True, retest=True, promote=False)
    assert baseline_lines(project) == [("cpu", "baseline"), ("cpu", "baseline, changed by hand")]


def test_comments_and_layout_are_no_change(project: TinyProject, fake: FakeExecutor) -> None:
    project.night(fake, promote=False)
    train_py(project).write_text(f"# why\n{BASELINE}".replace("WIDTH = 16", "WIDTH  =  16  # narrow"))
    night = project.night(fake)
    assert night.verdicts["bad"].replayed
    assert {name for name, _ in night.trained} == {"good", "better"}, "what is promoted has the comments of today"
    assert night.summary.promotion
    assert train_py(project).read_text().startswith("# why\n")


def test_what_another_platform_has_recorded_is_recorded_here(
    project: TinyProject, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.night(fake, promote=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    night = project.night(fake, promote=False)
    assert night.trained[:2] == [("baseline", 0), ("baseline", 1)]
    assert len(json.loads((project.path / "baseline/cpu/baseline.json").read_text())["records"]) == 2


# -- runs that end from outside --


def test_a_run_that_was_killed_from_outside_is_tried_once_more(project: TinyProject) -> None:
    project.idea("good")
    killed = failed(Outcome.CRASHED, "killed by SIGKILL", interrupted=True)

    class Once(FakeExecutor):
        def run(self, spec, on_progress):  # type: ignore[no-untyped-def]
            self.canned = {"# good #": [1.9, 1.92]} if (spec, killed) in self.seen else {"# good #": [1.9, killed]}
            self.seen.append((spec, killed))
            return super().run(spec, on_progress)

        seen: list = []  # type: ignore[type-arg]  # noqa: RUF012

    night = project.night(Once(project.path, [2.0, 2.02], {}))
    assert night.trained == [("baseline", 0), ("baseline", 1), ("good", 0), ("good", 1), ("good", 1)]
    assert night.verdicts["good"].outcome is Outcome.KEPT
    assert night.verdicts["good"].scores == [1.9, 1.92]
    assert night.lines["good"].endswith("; note: seed 1 was tried again, since its first run was killed by SIGKILL")


def test_killed_twice_is_crashed(project: TinyProject) -> None:
    project.idea("good")
    night = project.night(project.fake(good=[1.9, failed(Outcome.CRASHED, "killed by SIGKILL", interrupted=True)]))
    assert night.trained[2:] == [("good", 0), ("good", 1), ("good", 1)]
    line = (
        "1.9000 against 2.0000 on seed 0 (-0.1000, p 0.045) killed by SIGKILL; note: seed 1 was tried again, since its"
    )
    assert night.lines["good"] == f"CRASHED {line} first run was killed by SIGKILL"
    assert project.night(project.fake()).lines["good"] == f"CRASHED (replayed) {line} first run was killed by SIGKILL"


def test_killed_on_two_seeds_is_crashed(project: TinyProject) -> None:
    """A program may kill itself where its luck is bad: it gets one more chance, not one for each seed."""
    project.idea("unlucky")
    killed = failed(Outcome.CRASHED, "killed by SIGKILL", interrupted=True)

    class Unlucky(FakeExecutor):
        def run(self, spec, on_progress):  # type: ignore[no-untyped-def]
            tries = sum(spec == other for other in self.specs)
            self.canned = {"# unlucky #": GOOD if tries else [killed, killed]}
            return super().run(spec, on_progress)

    night = project.night(Unlucky(project.path, [2.0, 2.02], {}))
    assert night.trained[2:] == [("unlucky", 0), ("unlucky", 0), ("unlucky", 1)]
    assert night.verdicts["unlucky"].outcome is Outcome.CRASHED


def test_a_crash_of_its_own_is_tried_once(project: TinyProject) -> None:
    project.idea("good")
    night = project.night(project.fake(good=[failed(Outcome.CRASHED, "killed by SIGSEGV")]))
    assert night.trained[2:] == [("good", 0)]


# -- files that are no experiments --


def test_what_lost_its_names_to_a_promotion_was_judged_against_an_earlier_baseline(
    project: TinyProject, fake: FakeExecutor
) -> None:
    write(project.path / "experiments/better.py", f"# better #\n{BASELINE}".replace("WIDTH", "SIZE"))
    first = project.night(fake)
    assert first.summary.promotion
    assert first.summary.promotion.verdict.experiment == "better"
    second = project.night(fake)
    assert second.skipped["bad"].startswith("discarded against an earlier baseline")
    assert "`WIDTH`: baseline/cpu/train.py has no such name" in second.lines["good"]


def test_a_broken_file_is_a_verdict_of_its_own(project: TinyProject, fake: FakeExecutor) -> None:
    write(project.path / "experiments/broken.py", "def train(run:\n")
    night = project.night(fake, promote=False)
    assert night.lines["broken"].startswith("CRASHED experiments/broken.py:1: ")
    assert ("broken", "crash") in statuses(project)
    rows = project.rows
    again = project.night(fake, promote=False)
    assert again.lines["broken"].startswith("CRASHED (replayed) ")
    assert project.rows == rows


def test_a_broken_file_keeps_its_description_where_it_can_be_read(project: TinyProject, fake: FakeExecutor) -> None:
    project.experiment("typo", "LEARNIGN_RATE = 6e-3", doc="A rate")
    write(project.path / "experiments/broken.py", '"""A text."""\ndef train(run:\n')
    write(project.path / "experiments/bare.py", "X = 1\n")
    project.night(fake, promote=False)
    described = {row["experiment"]: row["description"] for row in project.rows}
    assert (described["typo"], described["broken"], described["bare"]) == ("A rate.", "broken", "bare")


def test_the_same_seed_twice_is_the_same_luck(project: TinyProject) -> None:
    project.idea("good")
    seeds_itself = [result(0, 1.9, rng_digest=["a", "b", "c"]), result(1, 1.92, rng_digest=["d", "b", "e"])]
    night = project.night(project.fake(good=seeds_itself))
    assert night.lines["good"].partition("p ")[2].partition(") ")[2] == (
        "the same random numbers for seed 1 as for another: random numbers must come from run.seed, "
        "and are seeded with it already"
    )
    assert night.verdicts["good"].outcome is Outcome.DISQUALIFIED


# -- what the author of an experiment should know --

AVERAGED = """
def train(run):
    model = make_model(run.vocab_size)
    average = [weights.clone() for weights in model.parameters()]
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()))
        average = [0.9 * old + 0.1 * new for old, new in zip(average, model.parameters())]
    return model
"""
OLD_LOOP = """
def train(run):
    model = make_model(run.vocab_size)
    for tokens, targets in run.batches(BATCH_SIZE * 2):
        run.log(F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()))
    return model
"""


def test_an_overlay_that_takes_a_promoted_gain_back_says_so(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.experiment("averaging", f"from baseline import *\n{AVERAGED}  # averaging #\n")
    fake = project.fake(averaging=[1.8, 1.82])
    assert project.night(fake).summary.promotion
    project.experiment("old_loop", f"from baseline import *\n{OLD_LOOP}")
    project.experiment("same_loop", f"from baseline import *\n{AVERAGED.replace('0.9', '0.9 ')}WIDTH = 3\n")
    project.idea("other")
    night = project.night(fake)
    note = "replaces `train` without 2 lines that the promotion of averaging put there"
    assert night.lines["old_loop"].endswith(f"; note: {note}")
    assert {name: verdict.note for name, verdict in night.verdicts.items()} == {
        "old_loop": note,
        "same_loop": "",
        "other": "",
    }
    replayed = project.night(fake).lines["old_loop"]
    assert replayed.startswith("DISCARDED (replayed)")
    assert replayed.count(note) == 1
    monkeypatch.chdir(project.path)
    assert autoresearch(["diff", "old_loop"]) == 0
    assert f"autoresearch: old_loop: {note}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("budget", "told"), [("5e11 flop", True), ("12 steps", False)])
def test_compiling_under_a_budget_in_flop_is_noted(project: TinyProject, budget: str, told: bool) -> None:
    project.track('train = "12 steps"', f'train = "{budget}"')
    project.idea("compiled", "make_model = torch.compile(make_model)")
    note = project.night(project.fake()).verdicts["compiled"].note
    assert note.startswith("torch.compile does nothing under a budget in flop") == told


def test_a_name_that_nothing_uses_is_a_crash_that_names_the_nearest(project: TinyProject) -> None:
    project.experiment("typo", "WIDTH = 3\nLEARNIGN_RATE = 6e-3")
    project.experiment("nothing", "def make_modell(vocab_size):\n    return None")
    night = project.night(project.fake())
    assert night.lines["typo"] == (
        "CRASHED experiments/typo.py:5: `LEARNIGN_RATE`: baseline/cpu/train.py has no such name, and nothing uses it; "
        "did you mean `LEARNING_RATE`?"
    )
    assert night.verdicts["nothing"].reason.endswith("did you mean `make_model`?")
    assert night.trained == []
