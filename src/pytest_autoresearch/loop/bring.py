"""Bring back what an agent wrote: experiments that are worth a run, under names that are free."""

import os
from collections.abc import Set
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import create_atomically, temporary, write_atomically
from pytest_autoresearch.core.text import name_of, one_line, read_source
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop import preflight
from pytest_autoresearch.loop.queue import Queue
from pytest_autoresearch.loop.round_folder import RoundFolder, lock_rounds
from pytest_autoresearch.loop.scratch import FILES, Brought, Scratch
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import SOURCE_BYTES


def bring_back(context: Context, folder: RoundFolder, scratch: Scratch) -> list[tuple[Brought, str]]:
    """Bring back the experiments in a scratch folder that are worth a run. Returns the others, each with the reason.

    What has come back is written into the round's facts at once, and is no change any more. After a kill, the same call
    finds what has come back already, and nothing comes back twice. OSError, for example on a full disk, or UsageError:
    the rest is still in the scratch folder.
    """
    refused = []
    root = context.project.experiments
    waiting = {each.path for each in Queue(context).waiting()} | {root / f"{name}.py" for name in folder.facts["files"]}
    for each in scratch.brought():
        if reason := each.problem or _reason(context, folder, scratch, each, waiting):
            refused.append((each, reason))
            continue
        path = _put(context, folder, scratch, each)
        waiting.add(path)
        name = name_of(path, root)
        folder.facts["files"] = list(dict.fromkeys([*folder.facts["files"], name]))
        scratch.before[each.name] = sha256(each.text)
        folder.write()
    return refused


def _reason(context: Context, folder: RoundFolder, scratch: Scratch, each: Brought, waiting: Set[Path]) -> str:
    """Why a file does not come back, or ""."""
    if len(folder.facts["files"]) >= FILES:
        return f"at most {FILES} files come back of one round"
    if folder.facts.get("killed") and _text(_place(context, folder, scratch, each)) == each.text:
        return ""  # it has come back, and may wait or have been judged
    if no_folder := _no_folder(context.project.experiments, each.name):
        return no_folder
    path = scratch.experiments / each.name
    reason = preflight.check(context, path, scratch.experiments, waiting)
    return one_line(reason.replace(f"{scratch.folder}{os.sep}", ""))


def _no_folder(root: Path, name: str) -> str:
    """Why there can be no file of this name below the project's experiments, or "": a folder on its way is none.

    Nothing is written through a link to a folder, and what lies behind it is no experiment.
    """
    for above in reversed(Path(name).parents[:-1]):
        if os.path.lexists(root / above) and ((root / above).is_symlink() or not (root / above).is_dir()):
            return f"experiments/{above.as_posix()} is no folder in the project, so choose another name"
    return ""


def _put(context: Context, folder: RoundFolder, scratch: Scratch, each: Brought) -> Path:
    """Write a file into the project, whole or not at all, and never over another one. Returns where.

    The one exception is an experiment that the agent was asked to mend, if nobody else has changed it.
    """
    with lock_rounds(context):
        while True:
            path = _place(context, folder, scratch, each)
            if (there := _text(path)) == each.text:
                temporary(path).unlink(missing_ok=True)  # from a loop that was killed just then
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            if there is not None:
                write_atomically(path, each.text)
                return path
            with suppress(FileExistsError):  # a person was faster
                create_atomically(path, each.text)
                return path


def _place(context: Context, folder: RoundFolder, scratch: Scratch, each: Brought) -> Path:
    """Where a file goes: to `rmsnorm.py`, `rmsnorm_2.py`, …, whichever is free, has this text, or is to be mended."""
    first = context.project.experiments / each.name
    others = (first.with_stem(f"{first.stem}_{number}") for number in count(2))
    for path in chain([first], others):
        text = _text(path)
        mends = path == first and each.name == f"{folder.facts['fix']}.py"
        if not os.path.lexists(path) or text == each.text:
            return path
        if mends and text is not None and sha256(text) == scratch.before.get(each.name):
            return path
    raise AssertionError


def _text(path: Path) -> str | None:
    """The text of an experiment in the project; None if it cannot be read."""
    with suppress(UsageError):
        return read_source(path, SOURCE_BYTES)
    return None
