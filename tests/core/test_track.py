"""Tracks and budgets: every bad key or value is one clear error."""

from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import choose_track, fingerprint, read_track, with_options

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
        ("vocab_size = 1024", "vocab_size = 259", ["data.vocab_size", "260 to 65536"]),
        ("vocab_size = 1024", "vocab_size = 300.0", ["data.vocab_size", "whole number"]),
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
    with pytest.raises(UsageError) as raised:
        read_track(folder)
    message = str(raised.value)
    assert message.startswith(str(folder / "track.toml"))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_not_utf8_and_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "cpu", GOOD)
    (folder / "track.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_track(folder)
    with pytest.raises(UsageError, match="cannot be read"):
        read_track(tmp_path / "nothing")


def test_choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no track here"):
        choose_track(tmp_path, None)
    write(tmp_path / "cpu", GOOD)
    write(tmp_path / "cuda", GOOD)
    for cuda, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("pytest_autoresearch.core.track.has_cuda", lambda cuda=cuda: cuda)
        assert choose_track(tmp_path, None).name == name
    assert choose_track(tmp_path, "cuda").name == "cuda"
    with pytest.raises(UsageError, match="no track 'tpu'; there is: cpu, cuda"):
        choose_track(tmp_path, "tpu")


def test_options_lie_over_the_track(tmp_path: Path) -> None:
    track = read_track(write(tmp_path / "cpu", GOOD))
    changed = with_options(track, "20 steps", 1)
    assert (str(changed.budget), changed.seeds, changed.budget.limit) == ("20 steps", 1, 180)
    assert changed.name == "cpu@20steps"  # its numbers do not compare with the track's
    assert with_options(track, "3e12 flop", None).budget.limit == 360
    assert with_options(track, "500 s", None).budget.limit > 500
    with pytest.raises(UsageError, match="--ar-budget soon: must be a positive number"):
        with_options(track, "soon", None)
    assert fingerprint(track, "key") != fingerprint(changed, "key")
