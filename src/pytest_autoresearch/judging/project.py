"""The folders of a project and the options of a session. `cli` finds the folders by pytest's settings files."""

import configparser
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import read_source
from pytest_autoresearch.core.track import Track, choose_track
from pytest_autoresearch.judging.stopping import NEVER, StopRule

SETTINGS = (
    ("pytest.toml", "pytest"),
    (".pytest.toml", "pytest"),
    ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"),
    ("pyproject.toml", "tool/pytest/ini_options", "tool/pytest"),
    ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)
"""The files and sections in which pytest looks for its settings, in pytest's order."""
MOST_BYTES = 1_000_000
"""The most bytes that a settings file may have."""


@dataclass(frozen=True)
class Options:
    """The `--ar-*` options."""

    track: str | None = None
    budget: str | None = None
    seeds: int | None = None
    record: bool = False
    promote: bool = True
    rerun: bool = False
    retest: bool = False
    sandbox: str = "auto"
    stop: StopRule = NEVER

    def on_track(self, command: str) -> str:
        """A command of pytest's or of ours, for the track that the options name; as it is where they name none."""
        if not self.track:
            return command
        name, (tool, _, rest) = shlex.quote(self.track), command.partition(" ")
        return f"{command} --ar-track {name}" if tool == "pytest" else f"{tool} --track {name} {rest}"


@dataclass(frozen=True)
class Project:
    """The folders of a project: `root` holds the ledger; `experiments` and `baseline` hold the programs."""

    root: Path
    experiments: Path
    baseline: Path

    def choose_track(self, options: Options) -> Track:
        """The track that the options name, or the one for this machine. UsageError if there is none."""
        if not self.baseline.is_dir():
            raise UsageError(f"{self.baseline}: no such folder; it must hold <track>/track.toml and <track>/train.py")
        return choose_track(self.baseline, options.track)


def find_project(start: Path) -> tuple[Project, dict[str, str]]:
    """The nearest folder at or above `start` with pytest settings or a folder `baseline`, and those settings."""
    for folder in (start, *start.parents):
        settings = read_settings(folder)
        if settings is not None or (folder / "baseline").is_dir():
            settings = settings or {}
            experiments = folder / settings.get("autoresearch_experiments", "experiments")
            return Project(folder, experiments, folder / settings.get("autoresearch_baseline", "baseline")), settings
    found = "neither pytest's settings nor a folder `baseline`"
    raise UsageError(f"{start}: no project here or above: {found}; `autoresearch init` begins one")


def read_settings(folder: Path) -> dict[str, str] | None:
    """pytest's settings from the first file in this folder that has any; None if no file has."""
    for name, *sections in SETTINGS:
        try:
            text = read_source(folder / name, MOST_BYTES)
            document = tomllib.loads(text) if name.endswith(".toml") else read_ini(text)
        except (UsageError, ValueError, configparser.Error):
            continue
        for section in sections:
            settings: Any = document
            for key in section.split("/"):
                settings = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(settings, dict):
                return {key: str(value) for key, value in settings.items()}
    return None


def read_ini(text: str) -> dict[str, dict[str, str]]:
    """The sections of an ini file."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}
