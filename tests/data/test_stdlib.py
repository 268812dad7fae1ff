"""data/stdlib.py: what of the standard library is held out, and where a sandbox has to hide it."""

import sys
from importlib.machinery import FrozenImporter
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.sources import find_held_out, open_corpus
from pytest_autoresearch.data.stdlib import DOCUMENTS, HELD_OUT, find_copies

TAG = sys.implementation.cache_tag


def made(*paths):
    """Make these files, each with its folder."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")


def library(folder, kind=".py"):
    """Make the beginnings of a standard library."""
    made(*(folder / f"{module}{kind}" for module in ("os", "ast", *HELD_OUT) if module != "xmlrpc"))
    return folder


def copies(*folders):
    return {path for path in find_copies(folders) if path.exists() and str(path) not in DOCUMENTS}


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A library from which this Python imports, it seems, in a folder that a sandbox shows."""
    folder = library(tmp_path / "usr/lib/python3.99")
    made(folder / "xmlrpc/client.py", folder / "xmlrpc/server.py", folder / "site-packages/torch/trace.py")
    monkeypatch.setattr(sys, "path", ["", str(folder), str(folder / "lib-dynload"), str(folder / "site-packages")])
    return folder


def test_this_python_has_every_module_in_a_file_that_can_be_hidden():
    corpus = open_corpus("stdlib", Path("/nowhere"))
    held_out = {path.relative_to(corpus.folder).parts[0].removesuffix(".py") for path in corpus.held_out}
    assert held_out == set(HELD_OUT)
    assert not [module for module in HELD_OUT if FrozenImporter.find_spec(module)]
    sides = [{document.text for document in corpus.documents(split)} for split in ("train", "held-out")]
    assert not sides[0] & sides[1]
    assert all(map(bool, sides))
    assert "" not in sides[0] | sides[1]


def test_a_library_without_these_modules_is_refused(tmp_path, monkeypatch):
    made(tmp_path / "os.py")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(UsageError, match=r"^.*: corpus 'stdlib': none of the held-out modules is there: ftplib, "):
        open_corpus("stdlib", Path())


def test_of_the_running_library_only_the_modules_and_what_quotes_them_are_hidden(tmp_path, running):
    compiled = [running / f"__pycache__/{name}.pyc" for name in (f"trace.{TAG}", "trace.other-1.opt-2", f"os.{TAG}")]
    made(*compiled, running / "test/test_trace.py")
    sources = {running / f"{module}.py" for module in HELD_OUT if module != "xmlrpc"}
    assert copies(tmp_path) == sources | {*compiled[:2], running / "xmlrpc", running / "test"}
    assert running / f"__pycache__/smtplib.{TAG}.opt-1.pyc" in set(find_copies([tmp_path]))  # it may come to be


def test_copies_are_found_wherever_they_are(tmp_path, running, monkeypatch):
    own = copies(tmp_path)
    other = library(tmp_path / "opt/app/1.0/python/lib/python3.7")
    legacy = library(tmp_path / "opt/old", ".pyc")
    stubs = library(running / "site-packages/checker/typeshed/stdlib", ".pyi")
    backport = running / "site-packages/future/backports/xmlrpc"
    others_packages = tmp_path / "usr/lib/python3/dist-packages"
    archive, sources = tmp_path / "usr/lib/python399.zip", tmp_path / "usr/local/Python-3.99.1.tar.xz"
    conda = tmp_path / "opt/conda"
    prefix = tmp_path / "compiled"
    made(backport / "client.py", backport / "server.py", others_packages / "x.py", archive, sources, prefix / "x.pyc")
    made(conda / "conda-meta/history", conda / "pkgs/python-3.98/lib/os.py", tmp_path / "opt/go/pkgs/a.py")
    monkeypatch.setattr(sys, "pycache_prefix", str(prefix))
    found = {other, legacy, stubs, backport, others_packages, archive, sources, conda / "pkgs", prefix}
    assert copies(tmp_path) == own | found


def test_packages_and_libraries_in_use_are_not_hidden(tmp_path, running, monkeypatch):
    packages = tmp_path / "opt/lib/python3/site-packages"
    made(packages / "torch/lib/x.so")
    assert packages in copies(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{packages}/torch/lib")
    assert packages not in copies(tmp_path)
    assert running / "site-packages" not in copies(tmp_path)


def test_folders_are_searched_once_by_their_real_names(tmp_path, running):
    (tmp_path / "lib").symlink_to(tmp_path / "usr/lib")
    found = list(find_copies([tmp_path / "lib", tmp_path, tmp_path / "usr"]))
    assert found.count(running / "test") == 1
    assert not [path for path in found if path.is_relative_to(tmp_path / "lib")]


def test_no_other_corpus_has_copies_on_the_machine():
    assert find_held_out("text", [Path("/usr")]) == []
