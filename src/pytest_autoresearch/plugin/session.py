"""The one session object that the hooks delegate to."""

from typing import TYPE_CHECKING

import pytest

from pytest_autoresearch.plugin.settings import baseline_folder, experiments_folder, project_root

if TYPE_CHECKING:
    from pytest_autoresearch.judging.session import Session
    from pytest_autoresearch.research.twins import Twins

SESSION = pytest.StashKey["Session"]()
TWINS = pytest.StashKey["Twins"]()
SHARED = pytest.StashKey[tuple[float, str]]()
"""When pytest began (s), and under xdist the name of the test run, which its workers share; else ""."""


def session_of(config: pytest.Config) -> "Session":
    """The one session object, made on first use."""
    if SESSION not in config.stash:
        from pytest_autoresearch.judging.project import Options, Project
        from pytest_autoresearch.judging.session import Session
        from pytest_autoresearch.judging.stopping import StopRule
        from pytest_autoresearch.plugin.terminal import PytestMonitor
        from pytest_autoresearch.referee.local import LocalExecutor

        get, root = config.getoption, project_root(config)
        options = Options(
            track=get("--ar-track") or config.getini("autoresearch_track") or None,
            budget=get("--ar-budget"),
            seeds=get("--ar-seeds"),
            record=get("--ar-record"),
            promote=not get("--ar-no-promote"),
            rerun=get("--ar-rerun"),
            retest=get("--ar-retest"),
            sandbox=get("--ar-sandbox"),
            stop=StopRule(get("--ar-hours"), get("--ar-until"), get("--ar-patience")),
        )
        project = Project(root, experiments_folder(config), baseline_folder(config, root))
        config.stash[SESSION] = Session(
            project, options, LocalExecutor(root), PytestMonitor(config), *config.stash[SHARED]
        )
    return config.stash[SESSION]


def twins_of(config: pytest.Config) -> "Twins":
    """The verdicts among which a session looks for twins, read on first use."""
    if TWINS not in config.stash:
        from pytest_autoresearch.research.twins import Twins

        config.stash[TWINS] = Twins(session_of(config).context)
    return config.stash[TWINS]
