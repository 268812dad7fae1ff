"""Tracks for smaller cards: what is chosen, what is written, and that it is a track."""

import ast
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.track_presets import GB, LADDER, Card, size_for, sized_track

ROOT = Path(__file__).parents[2]


def card(gigabytes: float, fast: bool = True) -> Card:
    return Card('A "card"', "cuda", gigabytes * GB, fast)


def test_a_large_card_gets_the_published_setting() -> None:
    track, size = read_track(ROOT / "baseline/cuda"), size_for(card(80))
    assert (size.sequence_length, size.vocab_size, size.eval_tokens) == (
        track.sequence_length,
        track.vocab_size,
        track.eval_tokens,
    )
    program = constants((ROOT / "baseline/cuda/train.py").read_text())
    assert (size.depth, size.batch_size, size.total_batch) == tuple(
        eval(program[name]) for name in ("DEPTH", "BATCH_SIZE", "TOTAL_BATCH_SIZE")
    )


@given(st.floats(1.0, 200.0), st.booleans())
def test_a_step_is_whole_batches_and_scoring_takes_a_part_of_the_memory(gigabytes: float, fast: bool) -> None:
    size = size_for(card(gigabytes, fast))
    assert size.total_batch % (size.batch_size * size.sequence_length) == 0
    assert size.eval_tokens % size.sequence_length == 0
    assert 8 * size.evaluation_batch_size * size.sequence_length * size.vocab_size <= max(
        gigabytes * GB / 8, 8 * size.sequence_length * size.vocab_size
    )


@given(st.floats(1.0, 200.0), st.floats(1.0, 200.0))
def test_more_memory_never_gives_less(one: float, other: float) -> None:
    low, high = (size_for(card(gigabytes)) for gigabytes in sorted((one, other)))
    assert low.depth <= high.depth
    assert low.total_batch <= high.total_batch


def test_a_card_without_bfloat16_stands_lower() -> None:
    assert size_for(card(15.8, fast=False)).depth == LADDER[3].depth < size_for(card(15.8)).depth


def test_too_little_memory_is_said() -> None:
    with pytest.raises(UsageError, match=r"0\.1 GB of memory is too little"):
        size_for(card(0.1))


def test_what_is_written_is_a_track_with_a_program_of_that_size(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "baseline/cuda", tmp_path / "cuda")
    model = read_track(tmp_path / "cuda")
    files, size = sized_track(model, card(12.6))
    (tmp_path / "cuda-12gb").mkdir()
    for name, text in files.items():
        (tmp_path / "cuda-12gb" / name).write_text(text)
    track = read_track(tmp_path / "cuda-12gb")
    assert track.description == 'A "card", 13 GB: a smaller cuda'
    assert (track.corpus, track.budget) == (model.corpus, model.budget)
    assert (track.vocab_size, track.sequence_length, track.eval_tokens, track.batch_size) == (
        size.vocab_size,
        size.sequence_length,
        size.eval_tokens,
        size.evaluation_batch_size,
    )
    before, after = (constants((tmp_path / name / "train.py").read_text()) for name in ("cuda", "cuda-12gb"))
    sized = {"DEPTH": size.depth, "BATCH_SIZE": size.batch_size, "TOTAL_BATCH_SIZE": size.total_batch}
    assert {name: eval(after[name]) for name in sized} == sized
    assert {name for name in after if after[name] != before[name]} <= sized.keys()


def constants(source: str) -> dict[str, str]:
    """Top-level UPPERCASE names and what they are set to, as text."""
    assigned = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    return {n.targets[0].id: ast.unparse(n.value) for n in assigned if isinstance(n.targets[0], ast.Name)}


def test_the_docs_have_the_same_table() -> None:
    lines = (ROOT / "docs/gpu.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| memory | depth | sequence | vocabulary | tokens a step | evaluation tokens |") + 2
    for line, size in zip(lines[start : start + len(LADDER)], LADDER, strict=True):
        memory, *numbers = (cell.strip().replace(",", "") for cell in line.strip("|").split("|"))
        assert memory.startswith(f"{size.least_memory / GB:.0f} GB" if size.least_memory else "less")
        said = [size.depth, size.sequence_length, size.vocab_size, size.total_batch, size.eval_tokens]
        assert numbers == [str(number) for number in said]
