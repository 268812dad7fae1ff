"""Hooks of our own, for a conftest.py or another plugin. What pytest already has (reports, properties) is not here."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_autoresearch.core.records import Verdict
    from pytest_autoresearch.judging.summary import Promotion


@pytest.hookspec
def pytest_autoresearch_verdict(config: pytest.Config, verdict: "Verdict") -> None:
    """Called once for each verdict, replayed ones too; under xdist on the controller.

    For example, to be told of a gain the moment it is there (an `optionalhook`, lest `-p no:autoresearch` complain)::

        @pytest.hookimpl(optionalhook=True)
        def pytest_autoresearch_verdict(config, verdict):
            if verdict.outcome == "kept" and not verdict.replayed:
                notify(f"{verdict.experiment}: {verdict.val_bpb:.4f} ({verdict.delta:+.4f})")
    """


@pytest.hookspec
def pytest_autoresearch_promoted(config: pytest.Config, promotion: "Promotion") -> None:
    """Called at the session's end after the best kept program has become the baseline.

    For example, to commit it::

        @pytest.hookimpl(optionalhook=True)
        def pytest_autoresearch_promoted(config, promotion):
            message = f"{promotion.verdict.experiment}: {promotion.before:.4f} → {promotion.after:.4f}"
            subprocess.run(["git", "commit", "-m", message, "--", promotion.path.parent])
    """
