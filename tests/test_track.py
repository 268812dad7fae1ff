"""Tracks and budgets: every bad key or value is one clear error."""

from pathlib import Path

import pytest

from pytest_autoresearch import BadInput
from pytest_autoresearch.track import Budget, Meter, choose_track, fingerprint, read_track, with_options

GOOD = """
description = "a test"
device = "cpu"
[data]
corpus = "stdlib"
vocab_size = 1024
sequence_length = 128
eval_tokens = 131072
[budget]
train = "1.5e12 flop"
startup = "60 s"
limit = "180 s"
[evaluation]
batch_size = 64
[verdict]
seeds = 3
alpha = 0.05
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "track.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_good_track(tmp_path: Path) -> None:
    track = read_track(write(tmp_path / "cpu", GOOD))
    assert (track.name, track.budget.amount, track.budget.unit) == ("cpu", 1.5e12, "flop")
    assert (track.budget.startup, track.budget.limit, track.seeds, track.alpha) == (60, 180, 3, 0.05)


@pytest.mark.parametrize(
    ("train", "amount", "unit"),
    [("60 s", 60, "s"), ("200 steps", 200, "steps"), ("1e6 tokens", 1e6, "tokens"), ("2e12flop", 2e12, "flop")],
)
def test_budgets(tmp_path: Path, train: str, amount: float, unit: str) -> None:
    track = read_track(write(tmp_path / "cpu", GOOD.replace("1.5e12 flop", train)))
    assert (track.budget.amount, track.budget.unit) == (amount, unit)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"1.5e12 flop"', '"five minutes"', ["budget.train", "five minutes", '"5 flop"', '"5 s"']),
        ('"1.5e12 flop"', '"-1 s"', ["budget.train"]),
        ('"1.5e12 flop"', '"1e999 s"', ["budget.train"]),
        ('"1.5e12 flop"', '"2.5 steps"', ["budget.train", "whole number"]),
        ('"1.5e12 flop"', "300", ["budget.train", "300"]),
        ('"1.5e12 flop"', '"1.2.3 s"', ["budget.train"]),
        ('"1.5e12 flop"', '"200 s"', ["budget.limit", "longer"]),
        ('"60 s"', '"60 flop"', ["budget.startup", '"5 s"']),
        ("seeds = 3", "seeds = 0", ["verdict.seeds", "at least 1"]),
        ("seeds = 3", "seeds = true", ["verdict.seeds"]),
        ("seeds = 3", 'seeds = "3"', ["verdict.seeds"]),
        ("alpha = 0.05", "alpha = 1", ["verdict.alpha", "between 0 and 1"]),
        ('device = "cpu"', 'device = "tpu"', ["device", '"cuda"']),
        ('corpus = "stdlib"', 'corpus = ""', ["data.corpus"]),
        ("seeds = 3", "", ["missing key verdict.seeds"]),
        ("[verdict]", "[verdict]\nseed = 4", ["unknown key verdict.seed", "verdict.seeds"]),
        ("[verdict]", "[verdicts]", ["unknown key verdicts.seeds", "[verdict]"]),
        ('device = "cpu"', 'device = "cpu"\ncolour = 1', ["unknown key colour", "device"]),
        ("[data]", "[data", ["TOML"]),
    ],
)
def test_a_bad_value_is_one_line_that_names_file_key_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    folder = write(tmp_path / "cpu", GOOD.replace(old, new))
    with pytest.raises(BadInput) as raised:
        read_track(folder)
    message = str(raised.value)
    assert message.startswith(str(folder / "track.toml"))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_not_utf8_and_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "cpu", GOOD)
    (folder / "track.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot be read"):
        read_track(folder)
    with pytest.raises(BadInput, match="cannot be read"):
        read_track(tmp_path / "nothing")


def test_choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no track here"):
        choose_track(tmp_path, None)
    write(tmp_path / "cpu", GOOD)
    write(tmp_path / "cuda", GOOD)
    for cuda, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("pytest_autoresearch.track.has_cuda", lambda cuda=cuda: cuda)
        assert choose_track(tmp_path, None).name == name
    assert choose_track(tmp_path, "cuda").name == "cuda"
    with pytest.raises(BadInput, match="no track 'tpu'; there is: cpu, cuda"):
        choose_track(tmp_path, "tpu")


def test_options_lie_over_the_track(tmp_path: Path) -> None:
    track = read_track(write(tmp_path / "cpu", GOOD))
    changed = with_options(track, "20 steps", 1)
    assert (str(changed.budget), changed.seeds, changed.budget.limit) == ("20 steps", 1, 180)
    assert changed.name == "cpu@20steps"  # its numbers do not compare with the track's
    assert with_options(track, "3e12 flop", None).budget.limit == 360
    assert with_options(track, "500 s", None).budget.limit > 500
    with pytest.raises(BadInput, match="--ar-budget soon: must be a positive number"):
        with_options(track, "soon", None)
    assert fingerprint(track, "key") != fingerprint(changed, "key")


# -- Meter: what a run has spent --


def test_steps_tokens_and_flop_are_counted() -> None:
    for unit, spent in (("steps", 2), ("tokens", 20), ("flop", 900)):
        meter = Meter(Budget(1000, unit, 60, 180), 0.0)
        meter.start(1.0)
        meter.step(10, 400, 2.0)
        meter.step(10, 900, 3.0)
        assert meter.spent == spent


def test_seconds_leave_out_compilation_but_no_training() -> None:
    """The first step compiles for 20 s; every step trains for 1 s; the 15 s before the first batch are free."""
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(15.0)
    now = 15.0
    for step in range(20):
        now += 21.0 if step == 0 else 1.0
        meter.step(1000, 0, now)
    assert meter.spent == pytest.approx(20)


def test_a_giant_first_step_is_charged_by_its_tokens() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(1.0)
    meter.step(50_000, 0, 51.0)
    now = 51.0
    for _ in range(15):
        now += 1.0
        meter.step(1000, 0, now)
    assert meter.spent == pytest.approx(50 + 15)


def test_startup_beyond_the_free_part_is_charged() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(75.0)
    assert meter.spent == pytest.approx(15)


def test_work_after_the_last_step_is_charged() -> None:
    meter = Meter(Budget(30, "s", 60, 180), 0.0)
    meter.start(0.0)
    for step in range(30):
        meter.step(1000, 0, step + 1.0)
    assert not meter.overspent()
    meter.finish(0, 61.0)
    assert "spent 61 s of a budget of 30 s" in meter.overspent()


def test_batches_end_nearest_to_the_budget() -> None:
    meter = Meter(Budget(100, "flop", 60, 180), 0.0)
    steps = 0
    while meter.allows_step():
        steps += 1
        meter.step(1, 30 * steps, float(steps))
    assert steps == 3
    assert not meter.overspent()


def test_compilation_in_the_first_steps_neither_freezes_nor_jumps_the_progress() -> None:
    """Five steps of 10 s that compile, then steady ones of 0.1 s: what is spent hardly ever falls."""
    meter = Meter(Budget(60, "s", 100, 180), 0.0)
    meter.start(0.0)
    now, spent = 0.0, []
    for step in range(60):
        now += 10.0 if step < 5 else 0.1
        meter.step(1000, 0, now)
        spent.append(meter.spent)
    assert spent[-1] == pytest.approx(6.0)
    assert spent[10:] == sorted(spent[10:])


def test_a_big_batch_that_was_allowed_is_not_held_against_anyone() -> None:
    for tokens in range(200, 1000):
        meter = Meter(Budget(1536, "tokens", 60, 180), 0.0)
        while meter.allows_step():
            meter.step(tokens, 0, 1.0)
        assert not meter.overspent(), tokens


def test_one_giant_step_overspends() -> None:
    meter = Meter(Budget(100, "flop", 60, 180), 0.0)
    meter.step(1, 1000, 1.0)
    assert not meter.allows_step()
    assert meter.overspent()
