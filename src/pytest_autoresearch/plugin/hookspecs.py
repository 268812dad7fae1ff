"""The hooks of this plugin, for a conftest.py or another plugin."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_autoresearch.core.records import Verdict
    from pytest_autoresearch.judging.summary import Promotion


@pytest.hookspec
def pytest_autoresearch_verdict(config: pytest.Config, verdict: "Verdict") -> None:
    """Called once for each verdict, also for replayed ones; under xdist, only in the controller.

    For example, to notify of a gain at once (`optionalhook`, so that `-p no:autoresearch` still works)::

        @pytest.hookimpl(optionalhook=True)
        def pytest_autoresearch_verdict(config, verdict):
            if verdict.outcome == "kept" and not verdict.replayed:
                notify(f"{verdict.experiment}: {verdict.val_bpb:.4f} ({verdict.delta:+.4f})")
    """


@pytest.hookspec
def pytest_autoresearch_promoted(config: pytest.Config, promotion: "Promotion") -> None:
    """Called at the end of the session, after the best kept program has become the baseline.

    For example, to commit it::

        @pytest.hookimpl(optionalhook=True)
        def pytest_autoresearch_promoted(config, promotion):
            message = f"{promotion.verdict.experiment}: {promotion.before:.4f} → {promotion.after:.4f}"
            subprocess.run(["git", "commit", "-m", message, "--", promotion.path.parent])
    """
