"""The corpus "stdlib": which modules of Python's own library are held out, and where on a machine their text lies."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

HELD_OUT = (
    *("ftplib", "imaplib", "mailbox", "modulefinder", "poplib"),
    *("pyclbr", "smtplib", "tabnanny", "trace", "xmlrpc"),
)
"""The held-out modules. A change here changes every score on the corpus.

Python 3.11 to 3.14 have them all, also where a distribution splits its library. No program needs them to train: they
talk to servers, which the sandbox does not let them reach, or are tools for source code. The rest of the library
imports them for such use only and repeats little of their text, and a model finds them as hard as the rest.
"""
AT_LEAST = 3
"""A folder with so many of these modules, or of their stubs, is a standard library, or stubs of one."""
XMLRPC = {"client.py", "server.py"}
"""The files of xmlrpc. It is the only one of these modules that is a package, and other packages carry copies of it."""
PACKAGES = {"site-packages", "dist-packages"}
PACKED = (".zip", ".tgz", ".tar.gz", ".tar.xz")
DOCUMENTS = ("/usr/share/doc", "/usr/src", "/usr/local/share/doc", "/usr/local/src")
"""Folders that may hold sources of Python or its documentation, and nothing that a program needs to run."""
PRUNED = {"__pycache__", "doc", "icons", "include", "locale", "man", "node_modules"}
"""Names of folders that may hold many files, but no standard library."""


def is_held_out(path: PurePath) -> bool:
    """Whether a file of the library is held out; `path` is relative to the library's folder.

    The one line of an `__init__.py` stands in other packages, too, so it trains.
    """
    return path.parts[0].removesuffix(".py") in HELD_OUT and path.name != "__init__.py"


def find_copies(folders: Iterable[Path]) -> Iterator[Path]:
    """All paths under `folders` that may hold held-out text: a sandbox that shows these folders must hide them.

    - Of the library that runs: the files and folders of the held-out modules, their compiled files even if they do not
      exist yet, and the tests, which quote them.
    - As a whole: libraries and packages of other Pythons, stubs of the library, archives of Python, and what conda has
      unpacked.

    Links are not followed.
    """
    yield from map(Path, (*DOCUMENTS, *([sys.pycache_prefix] if sys.pycache_prefix else [])))
    roots = {folder.resolve() for folder in folders}
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    needed = [Path(entry).resolve() for entry in (*sys.path, *libraries) if entry]
    on_the_way = {str(folder) for path in needed for folder in (path, *path.parents)}
    for root in (root for root in roots if not roots.intersection(root.parents)):
        yield from _copies_under(str(root), on_the_way)


def _copies_under(root: str, needed: set[str]) -> Iterator[Path]:
    """`needed` are the folders from which this Python imports or loads libraries, and those above them."""
    modules = {f"{module}.py{kind}" for module in HELD_OUT for kind in ("", "c", "o", "i")}
    waiting = [root]
    while waiting:
        here = waiting.pop()
        folders, names = _listed(here)
        if len(modules.intersection(names)) >= AT_LEAST:
            if here not in needed:
                yield Path(here)
                continue
            yield from _held_out_in(Path(here))
        elif here.endswith("/xmlrpc") and XMLRPC.issubset(names):
            yield Path(here)
        yield from (
            Path(here, name) for name in names if name.startswith(("python", "Python")) and name.endswith(PACKED)
        )
        for name in folders:
            path = f"{here}/{name}"
            if (name in PACKAGES and path not in needed) or (name == "pkgs" and "conda-meta" in folders):
                yield Path(path)
            elif name not in PRUNED:
                waiting.append(path)


def _listed(folder: str) -> tuple[list[str], list[str]]:
    """The names of the folders in a folder, and of all else; none if it cannot be read."""
    folders: list[str] = []
    others: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
    return folders, others


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
