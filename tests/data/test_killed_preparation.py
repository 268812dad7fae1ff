"""Killed at any change to a file, the preparation of data leaves nothing that is taken for data."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from kills import each_kill
from tiny_project import TinyProject

from pytest_autoresearch.data import tokenizer
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.data.tokenizer import Tokenizer

if not hasattr(os, "fork"):
    pytest.skip("kills forks of itself", allow_module_level=True)


def test_a_kill_while_the_data_is_prepared(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    settings = {"root": project.path, "vocab_size": 300, "sequence_length": 16, "eval_tokens": 512}

    def state() -> dict[str, str]:
        files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]
        assert all(".building" not in str(path) for path in files)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name != "meta.json"}

    prepared = prepare("text", **settings)
    whole = state()
    trained = Tokenizer.load(prepared.tokenizer_path)  # its training has threads of its own, which no fork survives
    monkeypatch.setattr(tokenizer, "train_tokenizer", lambda texts, size: trained)
    assert len(whole) == 3
    kills = 0
    for _ in each_kill(lambda: prepare("text", **settings), lambda: shutil.rmtree(tmp_path / "cache")):
        kills += 1
        prepare("text", **settings)
        assert state() == whole
    assert kills > 10
    print(f"\n{kills} kills while data is prepared: 0 corrupted")
