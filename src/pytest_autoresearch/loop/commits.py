"""A commit for each promotion: of the track's program and record and the experiment's file, and of nothing else."""

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context


def commit_promotion(context: Context, verdict: Verdict) -> str:
    """Commit a promotion, also where other files have changes, staged or not. Returns the commit's first line.

    "" if there is nothing to commit. UsageError if git refuses, with its reason.
    """
    raise NotImplementedError
