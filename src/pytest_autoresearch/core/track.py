"""A track: one fixed setting in which numbers are comparable, read from `baseline/<track>/track.toml`."""

import hashlib
import json
import math
import os
import platform
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_autoresearch.core.budget import Budget, exact, parse_amount
from pytest_autoresearch.core.errors import UsageError

SCORING_VERSION = 2
"""Part of every fingerprint. Raise it when a change gives the same program another score."""

DEVICES = ("cpu", "cuda", "mps")
VOCAB_SIZES = range(260, (1 << 16) + 1)
"""256 bytes and the special tokens, to what rows of uint16 can hold."""


@dataclass(frozen=True)
class Track:
    """One fixed setting. `folder` holds `track.toml`, `train.py` and `baseline.json`."""

    name: str
    folder: Path
    description: str
    device: str
    corpus: str
    vocab_size: int
    sequence_length: int
    eval_tokens: int
    budget: Budget
    batch_size: int
    seeds: int
    alpha: float
    memory: float | None = None
    """The most bytes that all processes of a run may use together; None for no limit."""
    noise: float | None = None
    """Known standard deviation of a paired difference (bits per byte) between two equally good programs."""
    simplify_margin: float | None = None
    """The most bits per byte by which a program with `GOAL = "simplify"` may be worse."""
    token_factor: float = 2.0
    """Under a budget in flop, a run may draw so many times the tokens of the baseline's runs: reading costs no flop."""
    max_memory_growth: float | None = None
    """How much more memory than the baseline an experiment may use, as a share of the baseline's memory."""

    def is_meant_by(self, name: str) -> bool:
        """Whether `TRACK = name` in an experiment means this track: `cuda` also means `cuda-24gb`."""
        return f"{self.folder.name}-".startswith(f"{name}-")

    @property
    def program_path(self) -> Path:
        return self.folder / "train.py"


# -- values --


def _string(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a string")
    return value


def _device(value: object) -> str:
    if value not in DEVICES:
        raise ValueError(" or ".join(f'"{device}"' for device in DEVICES))
    return str(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number of at least 1")
    return value


def _vocab_size(value: object) -> int:
    if not isinstance(value, int) or value not in VOCAB_SIZES:
        raise ValueError(f"a whole number from {VOCAB_SIZES[0]} to {VOCAB_SIZES[-1]}")
    return value


def _positive(value: object, below: float = math.inf, allowed: str = "a positive number") -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < below:
        raise ValueError(allowed)
    return float(value)


def _at_least_one(value: object) -> float:
    if (number := _positive(value, allowed="a number of at least 1")) < 1:
        raise ValueError("a number of at least 1")
    return number


def _seconds(value: object) -> float:
    return parse_amount(value, ["s"])[0]


def _bytes(value: object) -> float:
    return parse_amount(value, ["GB"])[0] * 1e9


# Every key of track.toml: (section, key) → the function that reads its value. No two sections have a key in common.
_KEYS: dict[tuple[str, str], Callable[[object], Any]] = {
    ("", "description"): _string,
    ("", "device"): _device,
    ("data", "corpus"): _string,
    ("data", "vocab_size"): _vocab_size,
    ("data", "sequence_length"): _whole,
    ("data", "eval_tokens"): _whole,
    ("budget", "train"): parse_amount,
    ("budget", "startup"): _seconds,
    ("budget", "limit"): _seconds,
    ("evaluation", "batch_size"): _whole,
    ("verdict", "seeds"): _whole,
    ("verdict", "alpha"): partial(_positive, below=1, allowed="a number between 0 and 1"),
}
_OPTIONAL: dict[tuple[str, str], Callable[[object], Any]] = {
    ("budget", "memory"): _bytes,
    ("budget", "token_factor"): _at_least_one,
    ("verdict", "noise"): _positive,
    ("verdict", "simplify_margin"): _positive,
    ("verdict", "max_memory_growth"): _positive,
}


# -- reading --


def track_names(baseline_folder: Path) -> list[str]:
    """The names of the tracks in a baseline folder."""
    return sorted(path.parent.name for path in baseline_folder.glob("*/track.toml"))


def has_cuda() -> bool:
    """Whether this machine has an NVIDIA GPU. Looks for the driver's files: collection must not import torch."""
    return any(os.path.exists(path) for path in ("/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/gpus"))


def choose_track(baseline_folder: Path, wanted: str | None) -> Track:
    """The track `wanted`, else `cuda` if there is a GPU, else `cpu`, else the only one. UsageError."""
    names = track_names(baseline_folder)
    if not names:
        raise UsageError(f"{baseline_folder}: no track here; a track is a folder with track.toml and train.py")
    if wanted:
        if wanted not in names:
            raise UsageError(f"{baseline_folder}: no track '{wanted}'; there is: {', '.join(names)}")
        return read_track(baseline_folder / wanted)
    for name in ("cuda",) * has_cuda() + ("cpu",):
        if name in names:
            return read_track(baseline_folder / name)
    if len(names) > 1:
        raise UsageError(f"{baseline_folder}: which track? choose one with --ar-track: {', '.join(names)}")
    return read_track(baseline_folder / names[0])


def read_track(folder: Path) -> Track:
    """Read `folder/track.toml`. UsageError names the file, the key, what was found and what is allowed."""
    path = folder / "track.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}") from None

    found: dict[tuple[str, str], object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found.update({(key, inner): inner_value for inner, inner_value in value.items()})
        else:
            found["", key] = value
    vocabulary = _KEYS | _OPTIONAL
    for where in found:
        if where not in vocabulary:
            allowed = ", ".join(_spell(*key) for key in vocabulary if key[0] == where[0]) or ", ".join(
                f"[{section}]" for section in dict.fromkeys(section for section, _ in _KEYS) if section
            )
            raise UsageError(f"{path}: unknown key {_spell(*where)}; allowed: {allowed}")

    values: dict[str, Any] = {}
    for where, read in vocabulary.items():
        if where in found:
            try:
                values[where[1]] = read(found[where])
            except ValueError as error:
                raise UsageError(f"{path}: {_spell(*where)} = {found[where]!r}: must be {error}") from None
        elif where in _KEYS:
            raise UsageError(f"{path}: missing key {_spell(*where)}")

    amount, unit = values.pop("train")
    budget = Budget(amount, unit, values.pop("startup"), values.pop("limit"))
    if unit == "s" and budget.limit <= amount:
        raise UsageError(f"{path}: budget.limit = {budget.limit:g} s: must be longer than budget.train ({budget})")
    return Track(name=folder.name, folder=folder, budget=budget, **values)


def _spell(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def with_options(track: Track, budget: str | None, seeds: int | None) -> Track:
    """The track with the values of `--ar-budget` and `--ar-seeds`. UsageError says what is allowed."""
    if budget:
        amount, unit = _option("--ar-budget", budget, parse_amount)
        limit = track.budget.limit
        if unit == track.budget.unit:
            limit *= max(1.0, amount / track.budget.amount)
        elif unit == "s":
            limit = max(limit, track.budget.startup + 2 * amount)
        other = replace(track.budget, amount=amount, unit=unit, limit=limit)
        if (amount, unit) != (
            track.budget.amount,
            track.budget.unit,
        ):  # a track of its own: scores under different budgets are not comparable
            track = replace(track, name=f"{track.name}@{exact(amount)}{unit}", budget=other, noise=None)
    if seeds is not None:
        track = replace(track, seeds=_option("--ar-seeds", seeds, _whole))
    return track


def _option(name: str, value: object, read: Callable[[object], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise UsageError(f"{name} {value}: must be {error}") from None


# -- fingerprint --


def fingerprint(track: Track, data_key: str) -> dict[str, str]:
    """Everything that a score depends on besides program and seed. Scores with other ones are not comparable."""
    return {
        "device": f"{track.device}: {_device_name(track.device)}",
        "threads": str(threads()),
        "torch": version("torch"),
        "data": data_key,
        "budget": budget_of(track),
        "scoring": str(SCORING_VERSION),
    }


def budget_of(track: Track) -> str:
    """The budget as fingerprints have it."""
    startup = f" after {track.budget.startup:g} s" if track.budget.unit == "s" else ""
    return f"{track.budget.amount!r} {track.budget.unit}{startup}"


def digest(value: object) -> str:
    """A hash (12 hex digits) of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def threads() -> int:
    """Number of threads of a candidate: OMP_NUM_THREADS if set, else the number of cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_device(track: Track) -> None:
    """UsageError if torch finds no device of the track's kind."""
    if track.device == "cpu":
        return
    import torch

    there = torch.cuda.is_available() if track.device == "cuda" else torch.backends.mps.is_available()
    if not there:
        path, found = track.folder / "track.toml", f"torch {torch.__version__} finds none here"
        raise UsageError(f'{path}: device = "{track.device}": {found}; choose another track with --ar-track')


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch  # the driver's files do not tell a GPU's name

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
