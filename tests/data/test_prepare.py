"""data/prepare.py: what is built, how the cache is kept, and how it survives kills, company and corruption."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data import cache as cache_module
from pytest_autoresearch.data.cache import cache_folder
from pytest_autoresearch.data.packing import pack
from pytest_autoresearch.data.prepare import data_key, prepare
from pytest_autoresearch.data.prepared import Prepared
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.data.tokenizer import Tokenizer, tokenise, train_tokenizer, training_texts

SETTINGS = {"vocab_size": 300, "sequence_length": 16, "eval_tokens": 330}
FILES = ["heldout.bin", "meta.json", "tokenizer.tiktoken", "train.bin"]
BUILD_STAGES = ["training the tokenizer", "tokenising held-out text", "tokenising training text"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def root(tmp_path):
    """A project with a folder `text` of 60 small files."""
    chance = random.Random(0)
    words = ["".join(chance.choice("abcdefgé漢") for _ in range(chance.randrange(1, 8))) for _ in range(200)]
    (tmp_path / "text").mkdir()
    for i in range(60):
        (tmp_path / "text" / f"{i:02}.txt").write_text(" ".join(chance.choices(words, k=300)) + "\n")
    return tmp_path


class Stages:
    """A Progress that notes the stages in order and checks that each only grows."""

    def __init__(self):
        self.seen, self.done = [], 0.0

    def __call__(self, stage, done):
        if self.seen[-1:] != [stage]:
            self.seen.append(stage)
            self.done = 0.0
        assert self.done <= done <= 1
        self.done = done


def build(root, **changes):
    """(Prepared, the stages that were passed through)."""
    stages = Stages()
    return prepare("text", root=root, progress=stages, **{**SETTINGS, **changes}), stages.seen


def refusal(root, corpus="text", **changes):
    with pytest.raises(UsageError) as caught:
        prepare(corpus, root=root, **{**SETTINGS, **changes})
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what is built -----------------------------------------------------------------------------------------------------


def test_rows_are_the_packed_documents_of_each_side(root):
    prepared, stages = build(root)
    assert stages == BUILD_STAGES

    corpus = open_corpus("text", root)
    tokenizer = train_tokenizer(training_texts(corpus.documents("train")), 300)
    assert Tokenizer.load(prepared.tokenizer_path).tokens == tokenizer.tokens
    train = np.stack(list(pack(tokenise(corpus.documents("train"), tokenizer, 16), 17)))
    held_out = np.stack(list(pack(tokenise(corpus.documents("held-out"), tokenizer, 16), 17)))
    assert np.array_equal(prepared.train_rows, train)
    assert np.array_equal(prepared.heldout_rows, held_out[: 330 // 16])
    assert prepared.heldout_rows.shape == (20, 17)
    assert len(held_out) > 20
    assert (prepared.train_rows[:, 0] == tokenizer.bos).all()
    assert np.array_equal(prepared.token_bytes, tokenizer.token_bytes)
    assert prepared.train_rows.dtype == np.uint16
    assert not prepared.train_rows.flags.writeable
    assert Prepared.of(prepared.key, 300, 16) == prepared


def test_parquet_corpus_is_packed_whole(root, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = [path.read_text()[:90] for path in sorted((root / "text").iterdir())] * 3
    pq.write_table(pa.table({"text": [f"{i} {text}" for i, text in enumerate(documents)]}), tmp_path / "a.parquet")
    prepared = prepare("a.parquet", root=root, vocab_size=300, sequence_length=64, eval_tokens=128)
    bos = 300 - 4
    assert (prepared.train_rows[:, 0] == bos).all()
    assert (prepared.train_rows[:, 1:] == bos).sum() > 0.2 * len(prepared.train_rows)  # short ones share rows


def test_second_time_it_is_found_and_nothing_is_built(root, cache):
    first, _ = build(root)
    second, stages = build(root)
    assert (second, stages) == (first, [])
    assert sorted(path.name for path in first.folder.iterdir()) == FILES
    assert sorted(path.name for path in cache.iterdir()) == sorted([".lock", first.key])


def test_key_names_content_and_settings_but_not_the_place(root, tmp_path):
    key = data_key("text", root=root, **SETTINGS)
    assert build(root)[0].key == key
    assert len(key) == 16
    assert int(key, 16)
    for setting in SETTINGS:
        assert data_key("text", root=root, **{**SETTINGS, setting: SETTINGS[setting] + 1}) != key
    shutil.copytree(root / "text", tmp_path / "elsewhere")
    assert data_key(str(tmp_path / "elsewhere"), root=root, **SETTINGS) == key
    (root / "text" / "00.txt").write_text("changed")
    assert data_key("text", root=root, **SETTINGS) != key


def test_stdlib_key_loads_nothing_heavy(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from pytest_autoresearch.data.prepare import data_key\n"
        "data_key('stdlib', root=Path('.'), vocab_size=1024, sequence_length=128, eval_tokens=131072)\n"
        "print(*{'torch', 'numpy', 'pyarrow', 'rustbpe', 'tiktoken', 'filelock', 'tqdm'} & set(sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout.strip() == b""


def test_the_cpu_track_can_be_prepared_from_stdlib():
    prepared = prepare("stdlib", root=Path("."), vocab_size=1024, sequence_length=128, eval_tokens=131_072)
    assert prepared.heldout_rows.shape == (1024, 129)
    assert prepared.train_rows.size > 3_500_000
    assert prepared.train_rows.max() < 1024
    assert 2.2 < prepared.token_bytes[prepared.heldout_rows[:, 1:]].mean() < 3.2


# -- settings that do not fit ------------------------------------------------------------------------------------------


def test_too_few_held_out_tokens_are_refused_with_how_many_there_are(root, cache):
    message = refusal(root, eval_tokens=10**9)
    assert message.startswith("corpus 'text': eval_tokens = 1000000000: its held-out text gives at most ")
    most = int(message.split("at most ")[1].split()[0])
    assert build(root, eval_tokens=most)[0].heldout_rows.shape == (most // 16, 17)
    assert "at most" in refusal(root, eval_tokens=most + 16)
    assert not list(cache.glob("*.building"))


def test_settings_out_of_range_are_refused(root):
    assert refusal(root, eval_tokens=15) == "eval_tokens = 15: must be at least sequence_length = 16"
    assert "must be from 260 to 65536" in refusal(root, vocab_size=65_537)
    assert "reaches only" in refusal(root, vocab_size=65_536)


def test_unusable_corpus_is_named_and_leaves_nothing(root, cache):
    (root / "text" / "17.txt").write_bytes(b"\xff")
    assert "17.txt: not UTF-8" in refusal(root)
    assert [path.name for path in cache.iterdir()] == [".lock"]


# -- the cache under attack --------------------------------------------------------------------------------------------


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))  # a clock may tick too coarsely to tell


def cut_short(path):
    before = path.stat().st_mtime_ns
    os.truncate(path, path.stat().st_size - 2)
    os.utime(path, ns=(0, before))


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in FILES
        for damage in (flip_a_byte, cut_short, remove)
        if damage is not flip_a_byte or name != "meta.json"
    ],
)
def test_damaged_file_is_noticed_and_built_again(root, name, damage):
    prepared, _ = build(root)
    whole = {path.name: path.read_bytes() for path in prepared.folder.iterdir() if path.suffix != ".json"}
    damage(prepared.folder / name)

    again, [explanation, *stages] = build(root)
    assert explanation.startswith(f"{prepared.folder}: {name} ")
    assert explanation.endswith("; building again")
    assert stages == BUILD_STAGES
    assert {path.name: path.read_bytes() for path in again.folder.iterdir() if path.suffix != ".json"} == whole
    assert build(root)[1] == []


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b"null", b"{}", b'{"settings": {}, "files": {}}'])
def test_meta_that_is_garbage_is_noticed_and_built_again(root, content):
    prepared, _ = build(root)
    (prepared.folder / "meta.json").write_bytes(content)
    assert build(root)[1][1:] == BUILD_STAGES


def test_meta_without_files_is_noticed_and_built_again(root):
    prepared, _ = build(root)
    meta = json.loads((prepared.folder / "meta.json").read_text())
    (prepared.folder / "meta.json").write_text(json.dumps({**meta, "files": None}))
    assert build(root)[1][1:] == BUILD_STAGES


def test_file_that_was_only_touched_is_still_good(root):
    prepared, _ = build(root)
    os.utime(prepared.train_path, ns=(1, 1))
    assert build(root)[1] == []


@pytest.mark.parametrize("name", ["train.bin", "heldout.bin", "tokenizer.tiktoken"])
def test_big_files_are_read_again_only_when_they_have_changed(root, monkeypatch, name):
    read, sha256_of = [], cache_module.sha256_of
    monkeypatch.setattr(cache_module, "BIG", 1)
    monkeypatch.setattr(cache_module, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    prepared, _ = build(root)
    for path in [*prepared.folder.iterdir(), *(root / "text").iterdir()]:
        os.utime(path, (1, 1))  # a file that has just changed is not remembered
    build(root)
    read.clear()
    assert build(root)[1] == []
    assert read == []
    flip_a_byte(prepared.folder / name)
    assert build(root)[1][0] == f"{prepared.folder}: {name} has changed; building again"


CHILD = """
import sys, time
from pathlib import Path
from pytest_autoresearch.data.prepare import prepare
root, stop_at = Path(sys.argv[1]), sys.argv[2:]
go, seen = root / "go", set()
def progress(stage, done):
    if stage not in seen:
        seen.add(stage)
        print(stage, flush=True)
    if (stop_at == [stage, "start"] or stop_at == [stage, "end"] and done == 1) and not go.exists():
        print("stopped", flush=True)
        while not go.exists():
            time.sleep(0.02)
print(prepare("text", root=root, progress=progress, vocab_size=300, sequence_length=16, eval_tokens=330).key)
"""


@pytest.fixture
def start_child(root):
    """Start a process that prepares `root` and prints its stages; none outlives the test."""
    children = []

    def start(*stop_at):
        command = [sys.executable, "-c", CHILD, str(root), *stop_at]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("stop_at", [(BUILD_STAGES[0], "start"), (BUILD_STAGES[2], "end")])
def test_killed_half_way_it_leaves_no_cache_and_the_next_one_sweeps_up(root, cache, start_child, stop_at):
    child = start_child(*stop_at)
    assert "stopped\n" in iter(child.stdout.readline, "")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    key = data_key("text", root=root, **SETTINGS)
    assert sorted(path.name for path in cache.iterdir()) == [".lock", f"{key}.building"]

    prepared, stages = build(root, vocab_size=301)  # other data: whoever builds next sweeps
    assert stages == BUILD_STAGES
    assert sorted(path.name for path in cache.iterdir()) == sorted([".lock", prepared.key])
    assert build(root)[1] == BUILD_STAGES


def test_of_two_processes_one_builds_and_the_other_waits_and_finds_it(root, start_child):
    builder = start_child(BUILD_STAGES[0], "start")
    assert [builder.stdout.readline() for _ in range(2)] == [f"{BUILD_STAGES[0]}\n", "stopped\n"]
    waiter = start_child()
    assert waiter.stdout.readline() == "waiting for another process that prepares data\n"
    (root / "go").touch()
    key = data_key("text", root=root, **SETTINGS)
    assert builder.communicate()[0].splitlines() == [*BUILD_STAGES[1:], key]
    assert waiter.communicate()[0].splitlines() == [key]
    assert (builder.returncode, waiter.returncode) == (0, 0)


# -- folders that cannot be written ------------------------------------------------------------------------------------


def test_cache_that_cannot_be_written_is_named_with_the_systems_reason(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "file" / "cache"))
    assert refusal(root) == f"{tmp_path}/file/cache/data: the cache cannot be written: Not a directory"


def test_full_disk_is_reported_and_leaves_nothing_behind(root, cache):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # train.bin is larger
    try:
        message = refusal(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message == f"{cache}: the cache cannot be written: File too large"
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_cache_folder_is_the_users_unless_named(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("AUTORESEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "pytest-autoresearch"
