"""Where a project's things are, and what was asked of a session: as pytest knows them, or as its files say."""

import configparser
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import Track, choose_track

SETTINGS = (
    ("pytest.toml", "pytest"),
    (".pytest.toml", "pytest"),
    ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"),
    ("pyproject.toml", "tool/pytest/ini_options", "tool/pytest"),
    ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)
"""Where pytest keeps its settings: file and sections, in its own order."""


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


@dataclass(frozen=True)
class Project:
    """Where things are: `root` holds the ledger, `experiments` and `baseline` the two folders of programs."""

    root: Path
    experiments: Path
    baseline: Path

    def choose_track(self, options: Options) -> Track:
        if not self.baseline.is_dir():
            raise UsageError(f"{self.baseline}: no such folder; it must hold <track>/track.toml and <track>/train.py")
        return choose_track(self.baseline, options.track)


def find_project(start: Path) -> tuple[Project, dict[str, str]]:
    """The project around a folder, the nearest one upwards with pytest's settings or a baseline; and those settings."""
    for folder in (start, *start.parents):
        settings = read_settings(folder)
        if settings is not None or (folder / "baseline").is_dir():
            settings = settings or {}
            experiments = folder / settings.get("autoresearch_experiments", "experiments")
            return Project(folder, experiments, folder / settings.get("autoresearch_baseline", "baseline")), settings
    raise UsageError(f"{start}: no project here or above: neither pytest's settings nor a folder `baseline`")


def read_settings(folder: Path) -> dict[str, str] | None:
    """pytest's own settings in a folder, from the first of its files that has them; None where there are none."""
    for name, *sections in SETTINGS:
        try:
            text = (folder / name).read_text(encoding="utf-8")
            document = tomllib.loads(text) if name.endswith(".toml") else read_ini(text)
        except (OSError, ValueError, configparser.Error):
            continue
        for section in sections:
            settings: Any = document
            for key in section.split("/"):
                settings = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(settings, dict):
                return {key: str(value) for key, value in settings.items()}
    return None


def read_ini(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}
