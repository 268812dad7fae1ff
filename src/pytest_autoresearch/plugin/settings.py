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
    group.addoption("--ar-status", metavar="FILE", help="keep in FILE what the session does now, as a JSON object")
    _add_stop_and_sweep_options(group)
    parser.addini("autoresearch_experiments", "folder of the experiments (default: experiments)", default="experiments")
    parser.addini("autoresearch_baseline", "folder of the tracks (default: baseline)", default="baseline")
    parser.addini("autoresearch_track", "track to judge on where --ar-track is not given", default="")


def _add_stop_and_sweep_options(group: "pytest.OptionGroup") -> None:
    """The options that say when a session stops, and how sweeps search."""
    group.addoption(
        "--ar-hours",
        metavar="H",
        type=number_option("--ar-hours", float),
        help="begin no experiment after H hours; one in progress finishes",
    )
    group.addoption(
        "--ar-until",
        metavar="VAL_BPB",
        type=number_option("--ar-until", float),
        help="stop once the baseline, or what was kept, scores VAL_BPB or less",
    )
    group.addoption(
        "--ar-patience",
        metavar="N",
        type=number_option("--ar-patience", int),
        help="stop after N verdicts in a row without a keep",
    )
    group.addoption(
        "--ar-trials",
        metavar="N",
        type=number_option("--ar-trials", int),
        help="try N points of each file with SEARCH_SPACE, a sweep",
    )
    group.addoption(
        "--ar-sampler",
        choices=["tpe", "gp", "random", "grid"],
        default="tpe",
        help="how a sweep chooses its points: tpe (the default), gp, random or grid",
    )
    group.addoption(
        "--ar-finalists",
        metavar="N",
        type=number_option("--ar-finalists", int, least=0),
        default=3,
        help="how many of a sweep's best programs are judged on the seeds of the verdict (default: 3)",
    )


def number_option(option: str, kind: type[int] | type[float], least: int | None = None) -> Callable[[str], float]:
    """Reads a number above zero, or from `least` on. pytest's own UsageError, in one line, where the text is none."""

    def read(text: str) -> float:
        with suppress(ValueError):
            number = kind(text)
            if (number > 0 if least is None else number >= least) and number < math.inf:
                return number
        bound = "above 0" if least is None else f"of at least {least}"
        raise pytest.UsageError(f"{option} {one_line(text)}: must be a {'whole ' * (kind is int)}number {bound}")

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
