"""The options of the command line, and the settings of pytest's own file."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import pytest

from pytest_autoresearch.core.text import one_line


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of section "autoresearch" and the three ini settings."""
    group = parser.getgroup("autoresearch", "experiments as tests")
    group.addoption(
        "--ar-track", metavar="NAME", help="track to judge on (default: cuda where there is a GPU, else cpu)"
    )
    group.addoption(
        "--ar-budget", metavar="AMOUNT", help='other training budget, such as "60 s" or "200 steps"; promotes nothing'
    )
    group.addoption(
        "--ar-seeds", metavar="N", type=int, help="other number of seeds; fewer than the track's promote nothing"
    )
    group.addoption(
        "--ar-record", action="store_true", help="record the baseline anew, and accept it where it was changed by hand"
    )
    group.addoption("--ar-no-promote", action="store_true", help="leave the baseline as it is, whatever passes")
    group.addoption("--ar-rerun", action="store_true", help="train again what would be replayed")
    group.addoption(
        "--ar-retest", action="store_true", help="judge anew what was judged against an earlier baseline only"
    )
    group.addoption(
        "--ar-sandbox",
        choices=["auto", "bwrap", "off"],
        default="auto",
        help="run candidates in bubblewrap: if it works (auto, the default), always (bwrap), never (off)",
    )
    group.addoption(
        "--ar-hours",
        metavar="H",
        type=above_zero("--ar-hours", float),
        help="begin no experiment after H hours; one in progress finishes",
    )
    group.addoption(
        "--ar-until",
        metavar="VAL_BPB",
        type=above_zero("--ar-until", float),
        help="stop once the baseline, or what was kept, scores VAL_BPB or less",
    )
    group.addoption(
        "--ar-patience",
        metavar="N",
        type=above_zero("--ar-patience", int),
        help="stop after N verdicts in a row without a keep",
    )
    parser.addini("autoresearch_experiments", "folder of the experiments (default: experiments)", default="experiments")
    parser.addini("autoresearch_baseline", "folder of the tracks (default: baseline)", default="baseline")
    parser.addini("autoresearch_track", "track to judge on where --ar-track is not given", default="")


def above_zero(option: str, kind: type[int] | type[float]) -> Callable[[str], float]:
    """Reads a number above zero. pytest's own UsageError, in one line, where the text is none."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if 0 < (number := kind(text)) < math.inf:
                return number
        what = "a whole number above 0" if kind is int else "a number above 0"
        raise pytest.UsageError(f"{option} {one_line(text)}: must be {what}")

    return read


def project_root(config: pytest.Config) -> Path:
    """The folder that holds experiments and tracks: pytest's own root, or its parent folder.

    `pytest experiments` in a project without a settings file makes `experiments/` itself pytest's root.
    """
    root = config.rootpath
    return root if has_tracks(config, root) or not has_tracks(config, root.parent) else root.parent


def has_tracks(config: pytest.Config, root: Path) -> bool:
    """Whether the project has a track. Without one, a folder `experiments` is not ours."""
    with suppress(OSError):
        return any(baseline_folder(config, root).glob("*/track.toml"))
    return False


def baseline_folder(config: pytest.Config, root: Path) -> Path:
    """The folder of the tracks."""
    return root / str(config.getini("autoresearch_baseline"))


def experiments_folder(config: pytest.Config) -> Path:
    """The folder whose files are experiments."""
    return project_root(config) / str(config.getini("autoresearch_experiments"))


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """A block in which standard output is the real one."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()
