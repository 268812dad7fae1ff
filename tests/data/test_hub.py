"""data/hub.py and data/download.py against a hub on localhost: what is chosen, fetched and refused."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import CHUNK, parquet, sentences
from tiny_project import TRACK, TinyProject

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data import hub as hub_module
from pytest_autoresearch.data.corpus import Corpus
from pytest_autoresearch.data.prepare import data_key, prepare
from pytest_autoresearch.data.sources import is_here, open_corpus


@pytest.fixture
def folder(tmp_path):
    """Where the manifests are."""
    return tmp_path / "cache" / "hub"


@pytest.fixture
def shared(tmp_path):
    """huggingface_hub's cache."""
    return tmp_path / "hf" / "hub"


CONTENT = {
    f"shard_{number:05}.parquet": parquet(sentences(number, 1200), [128, 5, 300]) for number in [0, 1, 2, 3, 6542]
}
SMALL = {f"part-{number}.parquet": parquet(sentences(number, 90)) for number in range(6)}
NAMES = sorted(SMALL)
HERE = Path()


def names(corpus):
    """(training, held out), as paths in the dataset."""
    relative = [path.relative_to(corpus.folder).as_posix() for path in corpus.files]
    held_out = relative.pop() if corpus.held_out else None
    assert corpus.held_out == corpus.files[len(relative) :]
    return relative, held_out


def refusal(corpus="hf:a/b", **options):
    with pytest.raises(UsageError) as caught:
        open_corpus(corpus, HERE, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- which shards ------------------------------------------------------------------------------------------------------


def test_the_last_in_name_order_is_held_out_and_the_first_ten_train(hub):
    hub.datasets["a/b"] = {f"data/{i:02}.parquet": parquet([f"text {i}"]) for i in [*range(12, 0, -1), 0]} | {
        "README.md": b"# text",
        "z.txt": b"z",
    }
    assert names(open_corpus("hf:a/b", HERE)) == ([f"data/{i:02}.parquet" for i in range(10)], "data/12.parquet")


def test_with_fewer_shards_all_others_train(hub, shared):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    assert names(corpus) == (NAMES[:5], NAMES[5])
    assert {path.name: path.read_bytes() for path in corpus.files} == SMALL
    assert corpus.folder == shared / "datasets--a--b" / "snapshots" / hub.commit


def test_a_folder_is_searched_to_its_depth_and_is_a_corpus_of_its_own(hub, folder):
    new = {f"en/{name}": content for name, content in SMALL.items()} | {"en/x/9.parquet": SMALL["part-0.parquet"]}
    hub.datasets["a/b"] = SMALL | new | {"english/z.parquet": SMALL["part-1.parquet"]}
    assert names(open_corpus("hf:a/b/en", HERE)) == (sorted(new)[:-1], "en/x/9.parquet")
    assert names(open_corpus("hf:a/b/en/x/", HERE)) == (["en/x/9.parquet"], None)
    assert sorted(path.name for path in folder.iterdir()) == ["a--b--en", "a--b--en%2Fx"]


def test_a_single_shard_is_split_by_its_documents(hub, tmp_path):
    texts = sentences(0, 400)
    hub.datasets["a/b"] = {"only.parquet": parquet(texts)}
    corpus = open_corpus("hf:a/b", HERE)
    (tmp_path / "only.parquet").write_bytes(parquet(texts))
    by_path = open_corpus("only.parquet", tmp_path)
    assert corpus.held_out == ()
    assert [d.text for d in corpus.documents("held-out")] == [d.text for d in by_path.documents("held-out")]
    assert len(list(corpus.documents("held-out"))) < 60
    assert "--shards 2: there is 1 to train on" in refusal(shards=2)


def test_climbmix_pins_its_held_out_shard_whatever_else_there_is(hub, folder):
    more = {"shard_06543.parquet": b"newer", "0.parquet": b"older", "z.parquet": b"other"}
    hub.datasets[hub_module.CLIMBMIX] = CONTENT | more
    corpus = open_corpus("climbmix", HERE, shards=3)
    assert names(corpus) == ([f"shard_{i:05}.parquet" for i in range(3)], "shard_06542.parquet")
    assert [path.name for path in folder.iterdir()] == ["karpathy--climbmix-400b-shuffle"]
    asked = len(hub.requests)
    assert open_corpus(f"hf:{hub_module.CLIMBMIX}", HERE).files == corpus.files
    assert len(hub.requests) == asked
    assert not [path for kind, path, _ in hub.requests if "/tree/" in path]
    assert refusal("climbmix", shards=6543) == "corpus 'climbmix': --shards 6543: there are 6542 to train on"
    assert names(open_corpus("climbmix", HERE))[0] == [f"shard_{i:05}.parquet" for i in range(3)]
    message = refusal("climbmix", shards=5)
    assert message == "corpus 'climbmix': shard_00004.parquet: not found in the dataset (404)"


def test_number_of_shards_is_remembered_and_only_what_is_new_is_fetched(hub):
    hub.datasets["a/b"] = SMALL
    assert names(open_corpus("hf:a/b", HERE, shards=2)) == (NAMES[:2], NAMES[5])
    two = open_corpus("hf:a/b", HERE)
    assert names(two)[0] == NAMES[:2]
    four = open_corpus("hf:a/b", HERE, shards=4)
    assert names(four)[0] == NAMES[:4]
    assert [len(hub.fetched(name)) for name in NAMES] == [1, 1, 1, 1, 0, 1]
    asked = len(hub.requests)
    again = open_corpus("hf:a/b", HERE, shards=2)
    assert len(hub.requests) == asked
    assert (names(again), again.digest()) == (names(two), two.digest())
    assert again.digest() != four.digest()


def test_more_shards_are_of_the_commit_of_the_first(hub):
    hub.datasets["a/b"] = SMALL
    open_corpus("hf:a/b", HERE, shards=1)
    first, hub.commit = hub.commit, "d" * 40
    assert "the hub no longer has the commit that was fetched first" in refusal(shards=2)
    hub.commit = first
    assert names(open_corpus("hf:a/b", HERE, shards=2))[0] == NAMES[:2]


@pytest.mark.parametrize("shards", [0, -1])
def test_no_shards_are_refused(hub, shards):
    assert refusal(shards=shards) == f"--shards {shards}: must be at least 1"
    assert not hub.requests


@pytest.mark.parametrize("name", ["hf:", "hf:a/../b", "hf:a/b/../c", "hf:../x", "hf:a--b/c", "hf:a/b/./c", "hf:a b/c"])
def test_a_malformed_name_is_refused_without_the_network(hub, name):
    assert refusal(name) == f"corpus '{name}': must be hf:<organisation>/<dataset>, or that and /<folder>"
    assert not hub.requests


def test_digest_tells_which_shard_is_held_out_and_not_where_it_lies(hub, tmp_path, monkeypatch):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    digest = corpus.digest()
    assert Corpus("x", corpus.folder, corpus.files, corpus.files[:1]).digest() != digest
    assert Corpus("x", corpus.folder, corpus.files).digest() != digest
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "elsewhere"))
    assert open_corpus("hf:a/b", HERE).digest() == digest


# -- a complete cache --------------------------------------------------------------------------------------------------


def test_a_complete_cache_needs_neither_the_network_nor_the_library(hub):
    hub.datasets["a/b"] = SMALL
    digest, asked = open_corpus("hf:a/b", HERE).digest(), len(hub.requests)
    hub.stop()
    script = (
        "import sys; from pathlib import Path\n"
        "from pytest_autoresearch.data.sources import open_corpus\n"
        "heavy = {'huggingface_hub', 'pyarrow', 'filelock', 'tqdm'}\n"
        "print(open_corpus('hf:a/b', Path()).digest(), *heavy & {*sys.modules})\n"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.split() == [digest]
    assert len(hub.requests) == asked


def remove(path):
    path.resolve().unlink()
    path.unlink()


def cut(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize("damage", [remove, Path.unlink, cut(0), cut(3), cut(700), cut(-1)])
def test_a_shard_that_is_gone_or_cut_short_is_fetched_again_and_no_other(hub, damage):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    before = corpus.digest()
    damage(corpus.files[2])
    assert not is_here("hf:a/b")
    assert open_corpus("hf:a/b", HERE).digest() == before
    again = 1 if damage == Path.unlink else 2  # that only removes a link in the library's cache
    assert [len(hub.fetched(name)) for name in NAMES] == [1, 1, again, 1, 1, 1]


def test_a_shard_that_has_been_overwritten_is_one_clear_error(hub):
    hub.datasets["a/b"] = SMALL
    path = open_corpus("hf:a/b", HERE).files[2]
    path.write_bytes(b"PAR1" + b"?" * 100 + b"PAR1")
    with pytest.raises(UsageError) as caught:
        prepare("hf:a/b", root=HERE, vocab_size=300, sequence_length=16, eval_tokens=64)
    assert str(caught.value).startswith(f"{path}: cannot be read as parquet: ")
    assert "\n" not in str(caught.value)


def test_shards_that_other_tools_have_fetched_are_not_fetched_again(hub):
    from huggingface_hub import hf_hub_download

    hub.datasets["a/b"] = SMALL
    hf_hub_download("a/b", NAMES[3], repo_type="dataset")
    assert names(open_corpus("hf:a/b", HERE)) == (NAMES[:5], NAMES[5])
    assert [len(hub.fetched(name)) for name in NAMES] == [1] * 6


def test_when_the_librarys_cache_moves_all_shards_come_from_the_new_place(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.datasets["a/b"] = SMALL
    before = open_corpus("hf:a/b", HERE, shards=2).digest()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    corpus = open_corpus("hf:a/b", HERE, shards=4)
    assert {path.read_bytes() for path in corpus.files} == {SMALL[name] for name in names(corpus)[0] + [NAMES[5]]}
    assert corpus.folder.is_relative_to(tmp_path / "elsewhere")
    assert open_corpus("hf:a/b", HERE, shards=2).digest() == before


GARBAGE = [b"", b"\xff", b"[]", b"null", b"{}", b'{"training": [], "held_out": null}']


@pytest.mark.parametrize("content", [*GARBAGE, b'"training": [{"path": "part-0.parquet"}]'])
def test_manifest_that_is_garbage_is_made_again_and_the_shards_are_kept(hub, folder, content):
    hub.datasets["a/b"] = SMALL
    before = open_corpus("hf:a/b", HERE).digest()
    manifest = folder / "a--b" / "manifest.json"
    if content.startswith(b'"'):  # an otherwise good one
        content = re.sub(rb'"training": \[.*?\]', content, manifest.read_bytes(), flags=re.DOTALL)
    manifest.write_bytes(content)
    assert open_corpus("hf:a/b", HERE).digest() == before
    assert [len(hub.fetched(name)) for name in NAMES] == [1] * 6


# -- lost connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [("status", 429, {"Retry_After": "0"}), ("cut", 0), ("cut", 1100)])
def test_what_passes_is_waited_for(hub, fault):
    hub.datasets["a/b"] = SMALL
    hub.faults[NAMES[1]] = [fault]
    assert open_corpus("hf:a/b", HERE).files[1].read_bytes() == SMALL[NAMES[1]]
    assert len(hub.fetched(NAMES[1])) == 2


def test_when_the_connection_fails_for_good_whole_shards_are_kept(hub):
    hub.datasets["a/b"] = CONTENT
    name = "shard_06542.parquet"
    hub.faults[name] = [("stall", 5500)]

    def progress(stage, done):
        if done > 0.8:  # the other four are there
            hub.go.set()

    hub.broken[name] = ("cut", 0)
    message = refusal(progress=progress)
    assert message.startswith(f"corpus 'hf:a/b': {name}: the download from {hub.url} failed: ")
    assert message.endswith("; whole shards are kept: start again")
    del hub.broken[name]
    assert open_corpus("hf:a/b", HERE).files[4].read_bytes() == CONTENT[name]
    assert [len(hub.fetched(other)) for other in CONTENT if other != name] == [1] * 4


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "status", "headers", "says"),
    [
        ("info", 404, {"X_Error_Code": "RepoNotFound"}, "no such dataset at {url} (404); if it is private, set HF_TOK"),
        ("info", 403, {}, "access denied (403): accept its terms on the hub, and set HF_TOKEN"),
        ("info", 429, {}, "too many requests to the hub (429); try again later, or set HF_TOKEN"),
        ("info", 500, {}, "the hub answers 500; try again later"),
        ("tree", 429, {"Retry_After": "0"}, "too many requests to the hub (429); try again later"),
        ("tree", 503, {}, "the hub answers 503; try again later"),
        ("resolve", 401, {"X_Error_Code": "GatedRepo"}, "part-0.parquet: access denied (401): accept its terms on"),
        ("resolve", 404, {"X_Error_Code": "EntryNotFound"}, "part-0.parquet: not found in the dataset (404)"),
        ("resolve", 429, {"Retry_After": "0"}, "part-0.parquet: too many requests to the hub (429); try again"),
        ("resolve", 500, {}, "part-0.parquet: the hub answers 500; try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(hub, shared, where, status, headers, says):
    hub.datasets["a/b"] = {NAMES[0]: SMALL[NAMES[0]]}
    hub.broken[where] = ("status", status, headers)
    assert refusal().startswith("corpus 'hf:a/b': " + says.format(url=hub.url))
    assert not list(shared.rglob("*.parquet"))
    del hub.broken[where]
    assert names(open_corpus("hf:a/b", HERE)) == ([NAMES[0]], None)


def test_what_is_not_there_is_named(hub):
    hub.datasets["a/b"] = {"README.md": b"# text", "data/a.csv": b"text"}
    assert refusal("hf:no/thing") == (
        f"corpus 'hf:no/thing': no such dataset at {hub.url} (401); if it is private, set HF_TOKEN"
    )
    assert refusal() == "corpus 'hf:a/b': it has no .parquet file, the only kind that can be read"
    assert refusal("hf:a/b/data").startswith("corpus 'hf:a/b/data': it has no .parquet file")
    assert refusal("hf:a/b/other") == "corpus 'hf:a/b/other': not found in the dataset (404)"


def test_no_hub_at_all(hub):
    hub.stop()
    assert refusal().startswith(f"corpus 'hf:a/b': the download from {hub.url} failed: ")


def test_a_download_that_is_too_short_is_never_taken_for_a_good_one(hub, shared):
    hub.datasets["a/b"] = SMALL
    hub.faults[NAMES[1]] = [("short", 700)]
    message = refusal()
    assert message.startswith(f"corpus 'hf:a/b': {NAMES[1]}: the download from {hub.url} failed: ")
    assert f"should be of size {len(SMALL[NAMES[1]])} but has size 700" in message
    assert not list(shared.rglob(NAMES[1]))
    assert open_corpus("hf:a/b", HERE).files[1].read_bytes() == SMALL[NAMES[1]]


def test_a_shard_without_text_is_refused_and_not_fetched_twice(hub):
    hub.datasets["a/b"] = SMALL | {NAMES[1]: parquet(["x"], name="content")}
    messages = [refusal(), refusal()]
    assert messages[0] == messages[1]
    assert messages[0].endswith("/part-1.parquet: must have a column 'text'; found: content")
    assert len(hub.fetched(NAMES[1])) == 1
    hub.datasets["c/d"] = {"x.parquet": b"no parquet at all"}
    assert "/x.parquet: cannot be read as parquet: " in refusal("hf:c/d")


@pytest.mark.parametrize("name", ["../x.parquet", "a\\b.parquet", "/x.parquet"])
def test_a_file_that_would_lie_elsewhere_is_not_fetched(hub, name):
    hub.datasets["a/b"] = {name: SMALL[NAMES[0]]}
    assert refusal() == f"corpus 'hf:a/b': {name!r}: a file with this name is not fetched"


def test_without_the_library_it_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = "needs huggingface_hub: pip install 'pytest-autoresearch[hub]'"
    assert refusal("climbmix") == f"corpus 'climbmix': {message}"
    assert refusal() == f"corpus 'hf:a/b': {message}"


def test_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "file" / "cache"))
    assert refusal() == f"{tmp_path}/file/cache/hub/a--b: the cache cannot be written: Not a directory"


def test_the_librarys_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.datasets["a/b"] = SMALL
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    message = refusal()
    assert message.startswith(f"{tmp_path}/file/hub")
    assert message.endswith(": the cache cannot be written: Not a directory")


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_grows_from_nothing_to_all(hub):
    hub.datasets["a/b"] = CONTENT
    hub.faults["shard_00002.parquet"] = [("wait", 8000)]
    seen = []

    def progress(stage, done):
        seen.append((stage, done))
        if hub.waiting.is_set() and done > 0.5:
            hub.go.set()

    open_corpus("hf:a/b", HERE, progress=progress)
    assert {stage for stage, _ in seen} == {"fetching 5 shards of hf:a/b"}
    done = [share for _, share in seen]
    assert done == sorted(done)
    assert done[-1] == 1
    assert done.count(1) == 1  # a second one would be shown as a message
    assert any(0.5 < share < 0.999 for share in done)
    open_corpus("hf:a/b", HERE, progress=progress)
    assert len(seen) == len(done)


# -- processes ---------------------------------------------------------------------------------------------------------

RUNNER = f"""
import sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}
from pytest_autoresearch.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path, hub):
    """Start `autoresearch …` in a project whose track reads hf:a/b; none outlives the test."""
    project, children = tmp_path / "project", []
    (project / "baseline/cpu").mkdir(parents=True)
    (project / "baseline/cpu/track.toml").write_text(TRACK.replace('corpus = "text"', 'corpus = "hf:a/b"'))
    (project / "baseline/cpu/train.py").write_text("def train(run):\n    pass\n")
    (project / "experiments").mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")

    def start(*arguments, **environment):
        command = [sys.executable, "-c", RUNNER, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(command, cwd=project, env={**os.environ, **environment}, **pipes))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def rows_of(output):
    assert re.fullmatch(r"track cpu: [\d,]+ training tokens, 544 held out, in \S+\n", output)
    return output


def test_prepare_from_the_hub_to_rows_killed_on_the_way_and_again_offline(hub, start, shared):
    hub.datasets["a/b"] = CONTENT
    cut = "shard_00001.parquet"
    hub.faults[cut] = [("wait", 8000)]
    child = start("prepare", "--shards", "2")
    assert hub.waiting.wait(20)
    whole = ["shard_00000.parquet", "shard_06542.parquet"]
    wait_for(lambda: sorted(path.name for path in shared.rglob("*.parquet")) == whole)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    hub.go.set()

    child = start("prepare")  # two shards, as the killed one was told
    out, err = child.communicate()
    assert (child.returncode, err.splitlines()[0]) == (0, "fetching 3 shards of hf:a/b")
    rows = rows_of(out)
    assert [len(hub.fetched(name)) for name in sorted(CONTENT)] == [1, 2, 0, 0, 1]
    assert {path.name: path.read_bytes() for path in shared.rglob("*.parquet")} == {
        name: CONTENT[name] for name in [*whole, cut]
    }

    hub.stop()
    child = start("prepare", HF_HUB_OFFLINE="1")
    assert (child.communicate()[0], child.returncode) == (rows, 0)


def test_ctrl_c_does_not_wait_for_what_is_under_way(hub, start, shared):
    hub.datasets["a/b"] = CONTENT
    cut = "shard_00002.parquet"
    hub.faults[cut] = [("wait", 8000)]
    child = start("prepare")
    assert hub.waiting.wait(20)
    wait_for(lambda: len(list(shared.rglob("*.parquet"))) == 4)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=10)  # the hub would go on after 20 s
    assert not list(shared.rglob(cut))
    hub.go.set()
    assert open_corpus("hf:a/b", HERE).files[2].read_bytes() == CONTENT[cut]
    assert [len(hub.fetched(name)) for name in sorted(CONTENT)] == [1, 1, 2, 1, 1]


def wait_for(condition):
    ready = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ready
        time.sleep(0.01)


def test_offline_with_a_cold_cache_says_so_and_what_is_no_number_of_shards(hub, start):
    hub.datasets["a/b"] = SMALL
    offline, none = start("prepare", HF_HUB_OFFLINE="1"), start("prepare", "--shards", "0")
    assert offline.communicate()[1].endswith(
        "baseline/cpu/track.toml: data.corpus = \"hf:a/b\": corpus 'hf:a/b': is not completely in the cache, and "
        "HF_HUB_OFFLINE forbids the download; unset it once\n"
    )
    assert none.communicate()[1] == "autoresearch: --shards 0: must be at least 1\n"
    assert (offline.returncode, none.returncode) == (2, 2)
    assert not hub.requests


def test_of_two_processes_one_fetches_and_the_other_waits(hub, start):
    hub.datasets["a/b"] = CONTENT
    hub.faults["shard_00000.parquet"] = [("wait", 3000)]
    first = start("prepare")
    assert hub.waiting.wait(20)
    second = start("prepare")
    assert second.stderr.readline() == "waiting for another process that fetches this corpus\n"
    hub.go.set()
    assert first.communicate()[0] == second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert [len(hub.fetched(name)) for name in sorted(CONTENT)] == [1] * 5


def test_shards_of_a_corpus_that_is_not_from_the_hub_are_refused(project: TinyProject, monkeypatch, capsys):
    monkeypatch.chdir(project.path)
    assert main(["prepare", "--shards", "3"]) == 2
    assert capsys.readouterr().err == (
        "autoresearch: --shards 3: corpus 'text' has no shards; only 'climbmix' and 'hf:<dataset>' have\n"
    )


def test_key_of_a_hub_corpus_is_its_own(hub):
    hub.datasets["a/b"] = SMALL
    options = {"root": HERE, "vocab_size": 300, "sequence_length": 16, "eval_tokens": 64}
    stages = []
    key = data_key("hf:a/b", **options, progress=lambda stage, done: stages.append(stage))
    assert set(stages) == {"fetching 6 shards of hf:a/b"}
    assert prepare("hf:a/b", **options).key == key
