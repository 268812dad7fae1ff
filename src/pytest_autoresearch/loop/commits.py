"""A commit for each promotion: of the track's program and record and the experiment's file, and of nothing else.

What is to be committed is read from files: the promotions in `baseline.json` that the last commit's lacks. So a
promotion whose commit was prevented is committed with the next one, or when the next loop starts.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from time import sleep

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.baseline import PastPromotion
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.experiment_file import file_as_judged
from pytest_autoresearch.loop.git import Git
from pytest_autoresearch.loop.words import gain_of

TRIES, PAUSE = 10, 0.2
"""How often a command is tried while another process holds git's index, and the seconds in between."""


def check_repository(context: Context) -> None:
    """UsageError if promotions cannot be committed: no repository, no name to commit under, or an ignored baseline."""
    git = Git(context.project.root)
    if git.run("rev-parse", "--is-inside-work-tree").output != "true":
        raise UsageError(f"--commit: {context.project.root} is not in a git repository")
    if (ident := git.run("var", "GIT_COMMITTER_IDENT")).code:
        raise UsageError(f"--commit: git has no name to commit under ({ident.reason}); set user.name and user.email")
    for path in (context.baseline.path, context.baseline.record_path):
        if not _can_be_committed(git, path):
            raise UsageError(f"--commit: git ignores {context.relative(path)}, so there would be nothing to commit")


def commit_promotion(context: Context, verdict: Verdict) -> str:
    """Commit a promotion, also where other files have changes, staged or not. Returns the commit's first line.

    "" if there is nothing to commit. UsageError if git refuses, with its reason.
    """
    with context.evidence.lock("git commit"):
        others = [past for past in _uncommitted(context) if past.experiment != verdict.experiment]
        return _commit(context, [_promoted(context, past) for past in others] + [verdict])


def commit_uncommitted(context: Context) -> str:
    """Commit the promotions that are in no commit yet. Returns the commit's first line, "" if there are none."""
    with context.evidence.lock("git commit"):
        return _commit(context, [_promoted(context, past) for past in _uncommitted(context)])


def message_of(verdict: Verdict | str) -> str:
    """`promote rmsnorm: val_bpb 2.1591 -> 2.1003 (-0.0588, p 1e-07)`; `promote rmsnorm` if only the name is known."""
    if isinstance(verdict, str):
        return f"promote {one_line(verdict)}"
    if not verdict.baseline_scores or verdict.val_bpb is None:
        return f"promote {one_line(verdict.experiment)}"
    return f"promote {gain_of(fmean(verdict.baseline_scores), verdict.val_bpb, verdict)}"


def _uncommitted(context: Context) -> list[PastPromotion]:
    """The promotions in `baseline.json` that the last commit's lacks, oldest first."""
    path, known = context.baseline.record_path, set()
    text = Git(path.parent).run("show", f"HEAD:./{path.name}")
    with suppress(ValueError, TypeError, KeyError, AttributeError):  # an older one, or another file
        known = {(past["experiment"], past["promoted_at"]) for past in json.loads(text.output)["promotions"]}
    return [past for past in context.baseline.promotions() if (past.experiment, past.promoted_at) not in known]


def _promoted(context: Context, past: PastPromotion) -> Verdict | str:
    """The verdict of a past promotion; the experiment's name if its evidence is gone."""
    verdicts = context.evidence.verdicts(context.track.name, past.experiment)
    kept = [verdict for verdict in verdicts if verdict.status == "keep"]
    return kept[-1] if kept else past.experiment


def _commit(context: Context, promoted: Sequence[Verdict | str]) -> str:
    """One commit of these promotions, the latest last. Its subject is about that one."""
    git = Git(context.project.root)
    files = [file_as_judged(context, verdict) for verdict in promoted if isinstance(verdict, Verdict)]
    wanted = [context.baseline.path, context.baseline.record_path, *(path for path in files if path)]
    paths = [str(path) for path in dict.fromkeys(wanted) if _can_be_committed(git, path)]
    if not promoted or not paths:
        return ""
    changed = git.checked("status", "--porcelain", "--untracked-files=all", "--", *paths)
    if not changed:
        return ""
    subject, *others = [message_of(each) for each in reversed(promoted)]
    message = "\n".join([subject, *[""] * bool(others), *others])
    new = [path for path in paths if git.run("ls-files", "--error-unmatch", "--", path).code]
    try:
        if new:  # a commit of paths knows no others than those of the index
            _when_free(git, "add", "--intent-to-add", "--", *new)
        _when_free(git, "commit", "--quiet", "--only", f"--message={message}", "--", *paths)
    except UsageError:
        if new:
            git.run("reset", "--quiet", "--", *new)
        raise
    return subject


def _when_free(git: Git, *arguments: str) -> None:
    """Run a git command. Waits a little while another process holds the index."""
    for left in reversed(range(TRIES)):
        try:
            git.checked(*arguments)
            return
        except UsageError as error:
            if not left or "index.lock" not in f"{error} {error.detail}":
                raise
            sleep(PAUSE)


def _can_be_committed(git: Git, path: Path) -> bool:
    """Whether git knows the file, or would take it: it is not ignored. UsageError if it is outside the repository."""
    if not git.run("ls-files", "--error-unmatch", "--", str(path)).code:
        return True
    ignored = git.run("check-ignore", "--quiet", "--", str(path))
    if ignored.code > 1:
        raise UsageError(f"git: {ignored.reason}", ignored.errors)
    return ignored.code == 1
