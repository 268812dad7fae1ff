"""The messages between a referee and its candidate: one dataclass per message, one JSON object per line.

Neither side trusts a line that it reads: both use `decode`, which checks every field.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args

from pytest_autoresearch.core.budget import Budget

T = TypeVar("T")
Count = Annotated[int, "0 <= n < 2**63"]

MAX_LINE = 1 << 20
"""The most bytes of a line."""
SAVED_CHUNK = 1 << 19
"""The most bytes of a saved file in one message. In base64 they are well below `MAX_LINE`."""
SAVED_BYTES, SAVED_FILES = 16_000_000, 64
"""The most bytes and files that one run may save."""
MAX_BATCH = 1 << 22
"""The most tokens of a batch."""
SAVED_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


# -- from the referee --


@dataclass(frozen=True)
class Job:
    """The first message: the settings of the run.

    `memory` is the track's limit in bytes, None for no limit. Each `Ask` is about (batch_size, sequence_length) tokens.
    `train_tokens` is the length of the training text. With `shares_device`, logits go into device memory, and its
    descriptor is sent before the first `Ask`. Otherwise they go into the host's shared memory.
    """

    seed: Count
    device: str
    threads: Count
    budget: Budget
    memory: float | None
    batch_size: Count
    sequence_length: Count
    vocab_size: Count
    train_tokens: Count
    shares_device: bool


@dataclass(frozen=True)
class Batch:
    """The answer to a `Draw`. After its line come `size` bytes: the tokens (batch_size, sequence_length + 1) uint16.

    `size` is 0 when the budget is spent. `progress` is the share of it that was spent before this batch, 0 to 1.
    """

    size: Count
    progress: float


@dataclass(frozen=True)
class Ask:
    """The shared memory holds a batch of tokens: write their logits."""


# -- from the candidate --


@dataclass(frozen=True)
class Started:
    """The program is about to ask for its first batch: the clock starts.

    `rng_digest` holds digests of the states of torch's, NumPy's, Python's and, on a GPU, the device's random numbers.
    """

    rng_digest: list[str]

    def __post_init__(self) -> None:
        if len(self.rng_digest) not in (3, 4):
            raise ValueError("rng_digest must hold three or four digests")


@dataclass(frozen=True)
class Draw:
    """The program asks for a batch, so its last step has ended. `flop` is the total of the run so far."""

    batch_size: Count
    sequence_length: Count
    flop: Count


@dataclass(frozen=True)
class Logged:
    """The program logged its training loss (nats per token) and other figures; each may be NaN or infinite."""

    loss: float
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A part of a file that the program saves; `first`: it is the first part."""

    name: str
    data: bytes
    first: bool


@dataclass(frozen=True)
class Trained:
    """`train` has returned. `flop` is the total so far, `memory` the peak bytes of a GPU, 0 without one."""

    flop: Count
    memory: Count


@dataclass(frozen=True)
class Answered:
    """The shared memory holds the logits of the last `Ask`, of type `dtype`. `flop` and `memory` as in `Trained`."""

    flop: Count
    memory: Count
    dtype: str


@dataclass(frozen=True)
class Raised:
    """An exception has ended the program: its type, its message in one line and its traceback."""

    kind: str
    error: str
    traceback: str


Message = Job | Batch | Ask | Started | Draw | Logged | Saved | Trained | Answered | Raised
_KINDS: dict[str, type[Message]] = {kind.__name__.lower(): kind for kind in get_args(Message)}


# -- encoding --


def encode(message: Message) -> bytes:
    """A message as one line of JSON."""
    return json.dumps({"event": type(message).__name__.lower(), **vars(message)}, default=_plain).encode() + b"\n"


def decode(line: bytes | str) -> Message:
    """The inverse of `encode`. ValueError if the line is no message, or a field is missing, unknown or malformed."""
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    event = _exactly(dict, content).pop("event", None)
    if not isinstance(event, str) or event not in _KINDS:
        raise ValueError("no such event")
    message: Message = _build(_KINDS[event], content)
    return message


def _build(kind: type[Any], content: object) -> Any:
    """Make a dataclass from its fields in JSON. ValueError."""
    expected = {each.name: each.type for each in fields(kind)}
    values = _exactly(dict, content)
    if values.keys() != expected.keys():
        raise ValueError(f"{kind.__name__} has the fields {', '.join(expected)}")
    return kind(**{name: _READ[expected[name]](value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else b64encode(value).decode()


def _exactly(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise ValueError(f"not of type {kind.__name__}")
    return value


def _count(value: object) -> int:
    if not 0 <= (count := _exactly(int, value)) < 2**63:
        raise ValueError("not a count")
    return count


def _number(value: object) -> float:
    return float(value) if type(value) is int and abs(value) < 2**63 else _exactly(float, value)


_READ: dict[Any, Callable[[object], Any]] = {
    str: lambda value: _exactly(str, value),
    bool: lambda value: _exactly(bool, value),
    Count: _count,
    float: _number,
    float | None: lambda value: None if value is None else _number(value),
    list[str]: lambda value: [_exactly(str, item) for item in _exactly(list, value)],
    dict[str, float]: lambda value: {name: _number(item) for name, item in _exactly(dict, value).items()},
    bytes: lambda value: b64decode(_exactly(str, value), validate=True),
    Budget: lambda value: _build(Budget, value),
}
"""The function that reads a field of each type. ValueError where the value is of another type."""


# -- limits --


def check_draw(batch_size: int, sequence_length: int, usual_length: int, train_tokens: int) -> None:
    """ValueError if no batch can have this size. The candidate checks before it asks, the referee when it is asked.

    `usual_length` is the track's own sequence length, `train_tokens` the length of the training text.
    """
    shortest, longest = max(1, usual_length // 16), train_tokens - 1
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; it must be a whole number of at least 1")
    if not isinstance(sequence_length, int) or not shortest <= sequence_length <= longest:
        allowed = f"a whole number from {shortest} to {longest}"
        raise ValueError(f"sequence_length is {sequence_length!r}; it must be {allowed}")
    if batch_size * sequence_length > MAX_BATCH:
        raise ValueError(f"a batch of {batch_size} × {sequence_length} tokens; it may have at most {MAX_BATCH:,}")


@dataclass
class SaveQuota:
    """Counts what a run has saved. The candidate checks each file before sending it, the referee each part."""

    bytes: int = 0
    files: int = 0

    def charge(self, name: str, size: int, first: bool = True) -> None:
        """Count `size` bytes of the file `name`; `first`: the file is new. ValueError if the name is not allowed, or
        the run saves too much."""
        if not isinstance(name, str) or not SAVED_NAME.fullmatch(name):
            allowed = "at most 100 letters, digits, and _ - . with no dot in front"
            raise ValueError(f"cannot save {str(name)[:120]!r}: a name has {allowed}")
        if self.bytes + size > SAVED_BYTES:
            asked = f"{size:,} bytes more than the {self.bytes:,} before"
            raise ValueError(f"cannot save {name!r}: {asked}; a run saves at most {SAVED_BYTES:,}")
        if self.files + first > SAVED_FILES:
            raise ValueError(f"cannot save {name!r}: a run saves at most {SAVED_FILES} files")
        self.bytes += size
        self.files += first
