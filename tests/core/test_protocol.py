"""Messages between the two processes: what is sent arrives, and nothing else passes for a message."""

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.budget import Budget
from pytest_autoresearch.core.protocol import SAVED_BYTES, SAVED_FILES, Message, SaveQuota, decode, encode

JOB = protocol.Job(3, "cpu", 2, Budget(5e11, "flop", 60.0, 180.0), None, 16, 128, 4096, 10**6, False)
MESSAGES: list[Message] = [
    JOB,
    protocol.Job(0, "cuda", 8, Budget(300.0, "s", 120.0, 900.0), 8e10, 16, 2048, 8192, 10**9, True),
    protocol.Batch(2**40, 0.25),
    protocol.Batch(0, 1),
    protocol.Ask(),
    protocol.Started(["a", "b", "c"]),
    protocol.Started(["a", "b", "c", "d"]),
    protocol.Draw(64, 128, 10**15),
    protocol.Logged(2.5, {"rate": 1e-3, "scale": math.inf}),
    protocol.Saved("weights.pt", bytes(range(256)), True),
    protocol.Trained(2**63 - 1, 0),
    protocol.Answered(1, 2, "bfloat16"),
    protocol.Raised("ValueError", "with \n a line, a \ud800 and an é", ""),
]
STARTED, DRAW, LOGGED, SAVED, ANSWERED = (
    next(message for message in MESSAGES if isinstance(message, kind))
    for kind in (protocol.Started, protocol.Draw, protocol.Logged, protocol.Saved, protocol.Answered)
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_sent_arrives(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == decode(line.decode()) == message


def test_nan_arrives() -> None:
    message = decode(encode(protocol.Logged(math.nan)))
    assert isinstance(message, protocol.Logged)
    assert math.isnan(message.loss)


def test_every_message_is_tested() -> None:
    assert {type(message) for message in MESSAGES} == set(protocol._KINDS.values())


@pytest.mark.parametrize(
    ("batch_size", "length", "words"),
    [
        (0, 128, "batch_size is 0; it must be a whole number of at least 1"),
        (2.0, 128, "batch_size is 2.0"),
        (1, 7, "sequence_length is 7; it must be a whole number from 8 to 999"),
        (1, 1000, "sequence_length is 1000"),
        (1, None, "sequence_length is None"),
        (10**6, 128, "a batch of 1000000 × 128 tokens; it may have at most 4,194,304"),
    ],
)
def test_sizes_that_no_batch_has(batch_size: Any, length: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        protocol.check_draw(batch_size, length, 128, 1000)


def changed(message: Message, **fields: Any) -> bytes:
    """The line of a message with other fields, whatever their types."""
    return json.dumps(json.loads(encode(message)) | fields).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"3",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"event": ["ask"]}',
        b'{"event": "scored", "val_bpb": 0.1}',
        b'{"event": "ask", "rows": 3}',
        b'{"event": "draw", "flop": 1}',
        changed(DRAW, flop=-1),
        changed(DRAW, flop=2**63),
        changed(DRAW, flop=True),
        changed(DRAW, flop=1.0),
        changed(DRAW, flop="1"),
        changed(DRAW, flop=None),
        b'{"event": "draw", "batch_size": Infinity, "sequence_length": 1, "flop": 0}',
        b'{"event": "draw", "batch_size": 1, "sequence_length": 1, "flop": ' + b"9" * 5000 + b"}",
        changed(LOGGED, loss="nan"),
        changed(LOGGED, loss=True),
        changed(LOGGED, loss=10**400),
        changed(LOGGED, scalars=[]),
        changed(LOGGED, scalars={"rate": "1"}),
        changed(STARTED, rng_digest=["a", "b"]),
        changed(STARTED, rng_digest="abc"),
        changed(STARTED, rng_digest=["a", "b", 3]),
        changed(SAVED, data="no base 64"),
        changed(SAVED, data="AAA"),
        changed(SAVED, first=1),
        changed(ANSWERED, dtype=None),
        changed(JOB, memory="2 GB"),
        changed(JOB, budget={"amount": 1.0, "unit": "s"}),
        changed(JOB, budget={"amount": 1.0, "unit": "s", "startup": 1.0, "limit": "long"}),
    ],
)
def test_nothing_else_is_a_message(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode)
)
@example(b'{"event": "ask"}')
def test_whatever_comes_is_a_message_or_a_value_error(line: bytes) -> None:
    with suppress(ValueError):
        assert encode(decode(line))


# -- what may be saved --


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", "a\\b", "a b", "x\n", "\0", "ä", "a" * 101, "C:x", "x\ud800", None, 3]
)
def test_names_that_are_no_plain_file_names(name: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot save .*: a name has at most 100 letters"):
        SaveQuota().charge(name, 1)


def test_a_run_saves_so_much_and_no_more() -> None:
    quota = SaveQuota()
    for name in ("a", "weights-1.pt", "-", "A" * 100):
        quota.charge(name, SAVED_BYTES // 4)
    with pytest.raises(
        ValueError, match=r"cannot save 'b': 1 bytes more than the 16,000,000 before; a run saves at most"
    ):
        quota.charge("b", 1)
    quota.charge("b", 0)


def test_a_run_saves_so_many_files() -> None:
    quota = SaveQuota()
    for number in range(SAVED_FILES):
        quota.charge(str(number), 0)
    quota.charge("0", 5, first=False)
    with pytest.raises(ValueError, match="at most 64 files"):
        quota.charge("one-more", 0)


def test_a_chunk_fits_into_a_line() -> None:
    assert len(encode(protocol.Saved("A" * 100, bytes(protocol.SAVED_CHUNK), True))) < protocol.MAX_LINE
