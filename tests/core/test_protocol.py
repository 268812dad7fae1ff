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

JOB = protocol.Job(3, "cpu", 2, Budget(5e11, "flop", 60.0, 180.0), None, 16, 128, 4096, False)
MESSAGES: list[Message] = [
    JOB,
    protocol.Job(0, "cuda", 8, Budget(300.0, "s", 120.0, 900.0), 8e10, 16, 2048, 8192, True),
    protocol.Ask(),
    protocol.Started(["a", "b", "c"]),
    protocol.Stepped(1024, 10**15),
    protocol.Logged(2.5, {"rate": 1e-3, "scale": math.inf}),
    protocol.Saved("weights.pt", bytes(range(256)), True),
    protocol.Trained(2**63 - 1, 0),
    protocol.Answered(1, 2, "bfloat16"),
    protocol.Raised("ValueError", "with \n a line, a \ud800 and an é", ""),
]


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
        b'{"event": "stepped", "tokens": 1}',
        changed(MESSAGES[4], tokens=-1),
        changed(MESSAGES[4], tokens=2**63),
        changed(MESSAGES[4], tokens=True),
        changed(MESSAGES[4], tokens=1.0),
        changed(MESSAGES[4], tokens="1"),
        changed(MESSAGES[4], tokens=None),
        b'{"event": "stepped", "tokens": Infinity, "flop": 0}',
        b'{"event": "stepped", "tokens": 1, "flop": ' + b"9" * 5000 + b"}",
        changed(MESSAGES[5], loss="nan"),
        changed(MESSAGES[5], loss=True),
        changed(MESSAGES[5], loss=10**400),
        changed(MESSAGES[5], scalars=[]),
        changed(MESSAGES[5], scalars={"rate": "1"}),
        changed(MESSAGES[3], rng_digest=["a", "b"]),
        changed(MESSAGES[3], rng_digest="abc"),
        changed(MESSAGES[3], rng_digest=["a", "b", 3]),
        changed(MESSAGES[6], data="no base 64"),
        changed(MESSAGES[6], data="AAA"),
        changed(MESSAGES[6], first=1),
        changed(MESSAGES[8], dtype=None),
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
