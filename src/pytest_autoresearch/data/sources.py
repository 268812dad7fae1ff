"""Sources: the corpus that a track names, on this machine or on the Hugging Face hub."""

import os
import sysconfig
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import cache_folder
from pytest_autoresearch.data.corpus import READERS, Corpus
from pytest_autoresearch.data.hub import hub_folders, is_fetched, open_hub_corpus
from pytest_autoresearch.data.progress import Progress, silent
from pytest_autoresearch.data.stdlib import HELD_OUT, find_copies, is_held_out

# These folders of the standard library hold tests or packages, and differ from machine to machine.
_NOT_STDLIB = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def open_corpus(name: str, root: Path, *, shards: int | None = None, progress: Progress = silent) -> Corpus:
    """The corpus called `name`.

    - "stdlib": the standard library of the running Python, without its tests; `stdlib.HELD_OUT` is held out.
    - "climbmix", "hf:<dataset>[/folder]": parquet files on the hub, fetched if they are not on this machine. `shards`
      is the number of files to train on; see `hub.open_hub_corpus`.
    - any other name: the path, absolute or relative to `root`, of a file or a folder. A folder is searched with its
      subfolders, without hidden files. Allowed are .parquet (a string column `text`), .jsonl (objects with a string
      `text`), .txt, .md and .py files.

    UsageError if the corpus cannot be used.
    """
    if _is_on_hub(name):
        return open_hub_corpus(name, shards, progress)
    if shards is not None:
        raise UsageError(f"--shards {shards}: corpus '{name}' has no shards; only 'climbmix' and 'hf:<dataset>' have")
    if name == "stdlib":
        folder = Path(sysconfig.get_path("stdlib"))
        files = _files_under(folder, {".py"}, lambda part: part in _NOT_STDLIB)
        held_out = tuple(path for path in files if is_held_out(path.relative_to(folder)))
        if not held_out:
            raise UsageError(f"{folder}: corpus 'stdlib': none of the held-out modules is there: {', '.join(HELD_OUT)}")
        return Corpus(name, folder, files, held_out)
    folder = root / Path(os.path.expanduser(name))
    if not folder.exists():
        raise UsageError(
            f"{folder}: no such file or folder; corpus must be 'stdlib', 'climbmix', 'hf:<dataset>' or a path"
        )
    if folder.is_file():
        if folder.suffix.lower() not in READERS:
            raise UsageError(f"{folder}: cannot read '{folder.suffix}' files; allowed: {', '.join(READERS)}")
        return Corpus(name, folder.parent, (folder,))
    files = _files_under(folder, set(READERS), lambda part: part.startswith("."))
    if not files:
        raise UsageError(f"{folder}: no file of text in this folder; allowed: {', '.join(READERS)}")
    return Corpus(name, folder, files)


def is_here(name: str) -> bool:
    """Whether a corpus can be opened without fetching anything."""
    return not _is_on_hub(name) or is_fetched(name)


def private_folders(name: str, root: Path) -> list[Path]:
    """The folders that may hold held-out text: our cache, the hub's caches, and the corpus itself if it is a path.

    A sandbox must hide them from candidates. It can hide only existing folders, so this creates the folders that
    `open_corpus` and `prepare` will write to. `find_held_out` says what must be hidden of the standard library.
    """
    written = [cache_folder(), *(hub_folders() if _is_on_hub(name) else [])]
    for folder in written:
        with suppress(OSError):  # then `prepare` cannot write there either
            folder.mkdir(parents=True, exist_ok=True)
    is_path = name != "stdlib" and not _is_on_hub(name)
    path = [root / Path(os.path.expanduser(name))] if is_path else []
    return list(dict.fromkeys([*written, *hub_folders(), *path]))


def find_held_out(name: str, shown: Iterable[Path]) -> list[Path]:
    """The files and folders with held-out text in the folders that a sandbox shows to candidates.

    Only "stdlib" has such text: every Python on the machine has a copy of it. The search takes some 0.1 s. See
    `stdlib.find_copies`.
    """
    return list(find_copies(shown)) if name == "stdlib" else []


def _is_on_hub(name: str) -> bool:
    return name == "climbmix" or name.startswith("hf:")


def _files_under(folder: Path, suffixes: set[str], skip: Callable[[str], bool]) -> tuple[Path, ...]:
    """Files with one of these suffixes, sorted by relative POSIX path; `skip` says which names are left out."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = [part for part in folders if not skip(part)]
        found += [Path(here, name) for name in names if not skip(name)]
    usable = [path for path in found if path.suffix.lower() in suffixes and path.is_file()]
    return tuple(sorted(usable, key=lambda path: path.relative_to(folder).as_posix()))
