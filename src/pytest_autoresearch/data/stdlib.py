"""The corpus "stdlib": which modules of Python's own library are held out, and where on this machine their text lies."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

HELD_OUT = (
    *("ftplib", "imaplib", "mailbox", "modulefinder", "poplib"),
    *("pyclbr", "smtplib", "tabnanny", "trace", "xmlrpc"),
)
"""The held-out modules. A change changes every score on the corpus.

Python 3.11 to 3.14 have them all, also where a distribution splits its library. No program needs them to train: they
speak to servers, which the sandbox does not let them reach, or are tools for source code. Nothing of the library
imports them but on such use, little of their text stands elsewhere in it, and a model finds them as hard as the rest.
"""
AT_LEAST = 3
"""A folder with so many of these modules is a standard library."""
DOCUMENTS = ("/usr/share/doc", "/usr/src", "/usr/local/share/doc", "/usr/local/src")
"""Folders that may hold sources of Python or its documentation, and nothing that a program needs to run."""
PRUNED = {"__pycache__", "dist-packages", "doc", "icons", "include", "locale", "man", "node_modules", "site-packages"}
"""Names of folders that hold no standard library, though perhaps many files."""


def is_held_out(path: PurePath) -> bool:
    """Whether a file of the library is held out; `path` is relative to the library's folder."""
    return path.parts[0].removesuffix(".py") in HELD_OUT


def find_copies(folders: Iterable[Path]) -> Iterator[Path]:
    """All paths under `folders` that may hold held-out text: what a sandbox that shows these folders must hide.

    Of the library that runs these are the files and folders of the modules, and its tests, which quote them. A compiled
    file is among them even before it exists. Libraries of other Pythons are there as a whole. `folders` are searched
    without following links; packages are not searched.
    """
    imported = [Path(entry).resolve() for entry in sys.path if entry]
    roots = sorted({folder.resolve() for folder in folders})
    for root in (root for root in roots if not any(root.is_relative_to(other) for other in roots if other != root)):
        for path in _libraries(root):
            runs = path.is_dir() and any(entry.is_relative_to(path) for entry in imported)
            yield from _held_out_in(path) if runs else [path]
    yield from map(Path, (*DOCUMENTS, *([sys.pycache_prefix] if sys.pycache_prefix else [])))


def _libraries(root: Path) -> Iterator[Path]:
    """The standard libraries under `root`, archives of Python, and the folder where conda keeps what it unpacked."""
    files = {f"{module}.py{kind}" for module in HELD_OUT for kind in ("", "c", "o")}
    for here, folders, names in os.walk(root):
        if "conda-meta" in folders and "pkgs" in folders:
            folders.remove("pkgs")
            yield Path(here, "pkgs")
        if len(files.intersection(names)) >= AT_LEAST:
            folders.clear()
            yield Path(here)
        for name in names:
            if name.lower().startswith("python") and name.endswith((".zip", ".tgz", ".tar.gz", ".tar.xz")):
                yield Path(here, name)
        folders[:] = [name for name in folders if name not in PRUNED]


def _held_out_in(library: Path) -> Iterator[Path]:
    """The paths that the held-out modules have in a standard library, or may have once they are imported."""
    compiled = library / "__pycache__"
    tag = sys.implementation.cache_tag
    for module in HELD_OUT:
        yield from (library / f"{module}{ending}" for ending in ("", ".py", ".pyc"))
        yield from (compiled / f"{module}.{tag}{level}.pyc" for level in ("", ".opt-1", ".opt-2"))
    yield library / "test"
    if compiled.is_dir():
        yield from (path for path in compiled.iterdir() if path.name.partition(".")[0] in HELD_OUT)
