"""data/sources.py: which folders a sandbox has to hide."""

from pathlib import Path

import pytest

from pytest_autoresearch.data.hub import hub_folders
from pytest_autoresearch.data.sources import private_folders


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "folders"),
    [
        ({}, [".cache/huggingface"]),
        ({"XDG_CACHE_HOME": "~/xdg"}, ["xdg/huggingface"]),
        ({"HF_HOME": "$HOME/hf"}, ["hf"]),
        ({"HF_HOME": "~/hf", "HF_HUB_CACHE": "~/hub", "HF_XET_CACHE": "~/xet"}, ["hf", "hub", "xet"]),
    ],
)
def test_folders_of_the_hub_follow_the_librarys_own_variables(tmp_path, monkeypatch, variables, folders):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_folders() == [tmp_path / folder for folder in folders]


def test_the_librarys_own_cache_is_in_one_of_them(tmp_path, monkeypatch):
    import subprocess
    import sys

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    script = "from huggingface_hub import constants as c; print(c.HF_HUB_CACHE, c.HF_XET_CACHE, c.HF_TOKEN_PATH)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert len(found) == 3
    assert all(Path(path).is_relative_to(hub_folders()[0]) for path in found)


@pytest.mark.parametrize(
    ("corpus", "last"), [("text", "project/text"), ("~/text", "text"), ("stdlib", ".cache/huggingface")]
)
def test_a_corpus_that_is_a_path_is_private(tmp_path, corpus, last):
    folders = private_folders(corpus, tmp_path / "project")
    assert folders[0] == tmp_path / "cache"
    assert folders[-1] == tmp_path / last
    assert tmp_path / ".cache/huggingface" in folders
    assert folders[0].is_dir()
    assert not (tmp_path / ".cache").exists()


def test_what_will_be_written_is_there_before_a_sandbox_hides_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert private_folders("climbmix", tmp_path) == [tmp_path / "cache", tmp_path / "hf"]
    assert (tmp_path / "hf").is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hf"))
    assert tmp_path / "file" / "hf" in private_folders("hf:a/b", tmp_path)
