"""data/cache.py: which digests of files are remembered, and for how long."""

import json
import os
import time

import pytest

from pytest_autoresearch.data import cache as cache_module
from pytest_autoresearch.data.sources import open_corpus


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """The files that were hashed, where all are big ones."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "BIG", 1)
    hashed, sha256_of = [], cache_module.sha256_of
    monkeypatch.setattr(cache_module, "sha256_of", lambda path: hashed.append(path.name) or sha256_of(path))
    return hashed


def old_file(path, text, age=10):
    path.write_text(text)
    os.utime(path, ns=(0, time.time_ns() - age * 10**9))


def test_digest_of_a_big_file_is_remembered_until_it_changes(tmp_path, hashed):
    old_file(tmp_path / "a.txt", "one")
    corpus = open_corpus("a.txt", tmp_path)
    digest = corpus.digest()
    assert corpus.digest() == digest
    assert hashed == ["a.txt"]
    old_file(tmp_path / "a.txt", "two", age=5)
    assert corpus.digest() != digest
    old_file(tmp_path / "a.txt", "one", age=20)
    assert corpus.digest() == digest
    assert len(hashed) == 3


def test_what_changed_this_moment_is_not_remembered_yet(tmp_path, hashed):
    old_file(tmp_path / "a.txt", "one", age=0)
    corpus = open_corpus("a.txt", tmp_path)
    assert corpus.digest() == corpus.digest()
    assert len(hashed) == 2


def test_small_files_are_hashed_each_time_and_leave_no_memory(tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(cache_module, "BIG", 4)
    old_file(tmp_path / "a.txt", "one")
    corpus = open_corpus("a.txt", tmp_path)
    assert corpus.digest() == corpus.digest()
    assert len(hashed) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"%s": 3}', b'{"%s": [3, "x", 5]}', b"[" * 100_000])
def test_a_damaged_memory_is_an_empty_one(tmp_path, hashed, content):
    old_file(tmp_path / "a.txt", "one")
    corpus = open_corpus("a.txt", tmp_path)
    digest = corpus.digest()
    memory = tmp_path / "cache" / "digests.json"
    memory.write_bytes(content.replace(b"%s", os.fsencode(tmp_path / "a.txt")))
    assert (corpus.digest(), corpus.digest()) == (digest, digest)
    assert len(hashed) == 2


def test_without_a_cache_to_write_to_digests_are_the_same(tmp_path, hashed, monkeypatch):
    old_file(tmp_path / "a.txt", "one")
    corpus = open_corpus("a.txt", tmp_path)
    digest = corpus.digest()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "file" / "cache"))
    assert (corpus.digest(), corpus.digest()) == (digest, digest)
    assert len(hashed) == 3


def test_files_that_are_gone_are_forgotten(tmp_path, hashed):
    for name in "ab":
        old_file(tmp_path / f"{name}.txt", name)
        open_corpus(f"{name}.txt", tmp_path).digest()
    memory = tmp_path / "cache" / "digests.json"
    assert len(json.loads(memory.read_text())) == 2
    (tmp_path / "a.txt").unlink()
    old_file(tmp_path / "b.txt", "new", age=5)
    open_corpus("b.txt", tmp_path).digest()
    assert list(json.loads(memory.read_text())) == [str(tmp_path / "b.txt")]
