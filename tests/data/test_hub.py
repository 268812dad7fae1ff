"""data/hub.py against a hub on localhost: what is chosen, fetched, resumed and refused, and that rows are exact."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rustbpe
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_project import TRACK, TinyProject

from pytest_autoresearch.cli import main
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data import cache as cache_module
from pytest_autoresearch.data import hub as hub_module
from pytest_autoresearch.data.corpus import Corpus, open_corpus
from pytest_autoresearch.data.packing import pack
from pytest_autoresearch.data.prepare import data_key, prepare
from pytest_autoresearch.data.tokenizer import SPLIT_PATTERN, Tokenizer, tokenise

CHUNK = 1000  # bytes that reach the disk at once; huggingface_hub's own 10 MB are more than these files have
WORDS = ["the", "cat", "naïve", "漢字", "sat", "on", "1984", "a", "mat", "don't", "\n\n", "🙂", "it", "rained;", "and"]


def sentences(seed, count, longest=12):
    chance = np.random.default_rng(seed)
    return [f"{i} " + " ".join(chance.choice(WORDS, chance.integers(0, longest))) for i in range(count)]


def parquet(texts, row_groups=(), name="text"):
    """The bytes of a parquet file; `row_groups` are sizes, the rest is one more."""
    file, start = io.BytesIO(), 0
    with pq.ParquetWriter(file, pa.schema([(name, pa.string())])) as writer:
        for size in [*row_groups, len(texts) - sum(row_groups)]:
            writer.write_table(pa.table({name: pa.array(texts[start : start + size], pa.string())}))
            start += size
    return file.getvalue()


# -- a hub -------------------------------------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """What huggingface_hub asks for: dataset info, tree (in pages of three), paths-info, resolve, a CDN with ranges.

    `faults[path]` are used up one by one by whoever fetches that file, `broken[where]` is what everybody gets there:
    ("status", code, headers), ("cut", n) closes the connection after n bytes, ("wait", n) stops there until `go` is
    set, ("short", n) has only n bytes and says so.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Speaker)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.datasets, self.faults, self.broken, self.sizes = {}, {}, {}, {}
        self.requests, self.waiting, self.go = [], Event(), Event()
        self.commit = "c0ffee" * 6 + "beef"
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def entry(self, dataset, path):
        content = self.datasets[dataset][path]
        size, oid = self.sizes.get(path, len(content)), hashlib.sha256(content).hexdigest()
        lfs = {"oid": oid, "size": size, "pointerSize": 134}
        return {"type": "file", "path": path, "size": size, "oid": "0" * 40} | ({"lfs": lfs} if size > 5 else {})

    def fetched(self, path):
        """The Range headers with which a file was asked for; "" for all of it."""
        return [wanted for kind, at, wanted in self.requests if (kind, at) == ("GET", f"/cdn/{path}")]

    def stop(self):
        self.go.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients that are killed are no news."""


class Speaker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        hub, url = self.server, urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/cdn/"):
            return self.send_file(path.removeprefix("/cdn/"))
        match = re.fullmatch(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(tree|paths-info|resolve)/([^/]+)(?:/(.+))?)?", path)
        dataset, kind, revision, rest = match.groups()
        if fault := hub.broken.get(kind or "info"):
            return self.answer(fault[1], b"", **fault[2])
        if dataset not in hub.datasets:
            return self.answer(401, b"{}")  # so the real one answers those whom it does not know
        if kind is None:
            return self.say({"id": dataset, "sha": hub.commit})
        if revision != hub.commit:
            return self.answer(404, b"", X_Error_Code="RevisionNotFound")
        there = hub.datasets[dataset]
        if kind == "resolve":
            if rest not in there:
                return self.answer(404, b"", X_Error_Code="EntryNotFound")
            return self.answer(302, b"", Location=f"/cdn/{rest}", X_Repo_Commit=hub.commit)
        if kind == "paths-info":
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            return self.say([hub.entry(dataset, name) for name in parse_qs(body)["paths"] if name in there])
        inside = [name for name in there if not rest or name.startswith(rest + "/")]
        if not inside:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        folders = {name.rpartition("/")[0] for name in inside} - {"", rest}
        entries = [{"type": "directory", "path": name, "oid": "1" * 40} for name in folders]
        entries += [hub.entry(dataset, name) for name in inside]
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        more = f'<{hub.url}{url.path}?cursor={start + 3}>; rel="next"' if len(entries) > start + 3 else ""
        return self.say(entries[start : start + 3], **({"Link": more} if more else {}))

    do_POST = do_GET

    def send_file(self, name):
        hub = self.server
        [content] = [files[name] for files in hub.datasets.values() if name in files]
        faults = hub.faults.get(name, [])
        kind, *how = faults.pop(0) if faults else hub.broken.get(name, ("",))
        if kind == "status":
            return self.answer(how[0], b"", **how[1])
        if kind == "short":
            content = content[: how[0]]
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        if start >= len(content) > 0:
            return self.answer(416, b"")
        ranged = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        end = start + how[0] if kind in ("cut", "wait") else None
        self.answer(206 if start else 200, content[start:], send=content[start:end], Accept_Ranges="bytes", **ranged)
        if kind == "wait":
            hub.waiting.set()
            hub.go.wait(20)
            self.wfile.write(content[end:])
        if kind == "cut":
            self.close_connection = True
        return None

    def say(self, what, **headers):
        self.answer(200, json.dumps(what).encode(), Content_Type="application/json", **headers)

    def answer(self, status, body, send=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if send is None else send)
        self.wfile.flush()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that huggingface_hub takes for the real one, in this process and in those it starts."""
    import huggingface_hub

    hub = Hub()
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    yield hub
    hub.stop()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "hub"


CONTENT = {
    f"shard_{number:05}.parquet": parquet(sentences(number, 1200), [128, 5, 300]) for number in [0, 1, 2, 3, 6542]
}
SMALL = {f"part-{number}.parquet": parquet(sentences(number, 90)) for number in range(6)}
NAMES = sorted(SMALL)
HERE = Path()


def names(corpus):
    """(training, held out), as paths in the dataset."""
    relative = [path.relative_to(corpus.folder).as_posix() for path in corpus.files]
    held_out = corpus.held_out and corpus.held_out.relative_to(corpus.folder).as_posix()
    return [name for name in relative if name != held_out], held_out


def refusal(corpus="hf:a/b", **options):
    with pytest.raises(UsageError) as caught:
        open_corpus(corpus, HERE, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parts(folder):
    return [path.name for path in folder.rglob(".*.part")]


# -- which shards ------------------------------------------------------------------------------------------------------


def test_the_last_in_name_order_is_held_out_and_the_first_ten_train(hub):
    hub.datasets["a/b"] = {f"data/{i:02}.parquet": parquet([f"text {i}"]) for i in [*range(12, 0, -1), 0]} | {
        "README.md": b"# text",
        "z.txt": b"z",
    }
    assert names(open_corpus("hf:a/b", HERE)) == ([f"data/{i:02}.parquet" for i in range(10)], "data/12.parquet")


def test_with_fewer_shards_all_others_train(hub, folder):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    assert names(corpus) == (NAMES[:5], NAMES[5])
    assert {path.name: path.read_bytes() for path in corpus.files} == SMALL
    assert corpus.folder == folder / "a--b"
    assert not parts(folder)


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
    assert corpus.held_out is None
    assert [d.text for d in corpus.documents("held-out")] == [d.text for d in by_path.documents("held-out")]
    assert len(list(corpus.documents("held-out"))) < 60
    assert "--shards 2: there is 1 to train on" in refusal(shards=2)


def test_climbmix_pins_its_held_out_shard_whatever_else_there_is(hub, folder):
    more = {"shard_06543.parquet": b"newer", "0.parquet": b"older", "z.parquet": b"other"}
    hub.datasets[hub_module.CLIMBMIX] = CONTENT | more
    corpus = open_corpus("climbmix", HERE, shards=3)
    assert names(corpus) == ([f"shard_{i:05}.parquet" for i in range(3)], "shard_06542.parquet")
    assert corpus.folder == folder / "karpathy--climbmix-400b-shuffle"
    asked = len(hub.requests)
    assert open_corpus(f"hf:{hub_module.CLIMBMIX}", HERE).files == corpus.files
    assert len(hub.requests) == asked
    assert not [path for kind, path, _ in hub.requests if "/tree/" in path]
    message = refusal("climbmix", shards=5)
    assert message == f"corpus 'climbmix': dataset {hub_module.CLIMBMIX} has no shard_00004.parquet"
    assert refusal("climbmix", shards=6543) == "corpus 'climbmix': --shards 6543: there are 6542 to train on"
    assert names(open_corpus("climbmix", HERE))[0] == [f"shard_{i:05}.parquet" for i in range(3)]


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
def test_what_is_no_dataset_is_refused_before_anybody_is_asked(hub, name):
    assert refusal(name) == f"corpus '{name}': must be hf:<organisation>/<dataset>, or that and /<folder>"
    assert not hub.requests


def test_digest_tells_which_shard_is_held_out_and_not_where_it_lies(hub, tmp_path, monkeypatch):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    digest = corpus.digest()
    assert Corpus("x", corpus.folder, corpus.files, corpus.files[0]).digest() != digest
    assert Corpus("x", corpus.folder, corpus.files).digest() != digest
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "elsewhere"))
    assert open_corpus("hf:a/b", HERE).digest() == digest


# -- a warm cache ------------------------------------------------------------------------------------------------------


def test_warm_cache_asks_nobody_and_does_not_even_load_the_library(hub):
    hub.datasets["a/b"] = SMALL
    digest, asked = open_corpus("hf:a/b", HERE).digest(), len(hub.requests)
    hub.stop()
    script = (
        "import sys; from pathlib import Path\n"
        "from pytest_autoresearch.data.corpus import open_corpus\n"
        "print(open_corpus('hf:a/b', Path()).digest(), *{'huggingface_hub', 'pyarrow', 'filelock'} & {*sys.modules})\n"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.split() == [digest]
    assert len(hub.requests) == asked


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-1])])
def test_a_shard_that_is_gone_or_cut_is_fetched_again_and_no_other(hub, damage):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    before = corpus.digest()
    damage(corpus.files[2])
    assert open_corpus("hf:a/b", HERE).digest() == before
    assert [len(hub.fetched(name)) for name in NAMES] == [1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"{}", b'{"training": [], "held_out": null}'])
def test_manifest_that_is_garbage_is_made_again_and_good_shards_are_kept(hub, folder, content):
    hub.datasets["a/b"] = SMALL
    corpus = open_corpus("hf:a/b", HERE)
    before = corpus.digest()
    whole = corpus.files[3].read_bytes()
    corpus.files[3].write_bytes(whole[:-1] + b"?")  # as long as it should be
    (folder / "a--b" / "manifest.json").write_bytes(content)
    assert open_corpus("hf:a/b", HERE).digest() == before
    assert [len(hub.fetched(name)) for name in NAMES] == [1, 1, 1, 2, 1, 1]


# -- lost connections --------------------------------------------------------------------------------------------------


def test_cut_connections_are_resumed_where_they_broke(hub):
    hub.datasets["a/b"] = CONTENT
    name = "shard_00001.parquet"
    hub.faults[name] = [("cut", 5500), ("cut", 0), ("cut", 3100)]
    corpus = open_corpus("hf:a/b", HERE)
    assert corpus.files[1].read_bytes() == CONTENT[name]
    first, *others = hub.fetched(name)
    assert first == ""
    starts = [int(wanted.removeprefix("bytes=").removesuffix("-")) for wanted in others]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert 5500 - CHUNK < starts[0] <= 5500
    assert starts[2] >= starts[1] + 3100 - CHUNK


def test_what_came_before_the_connection_failed_for_good_is_kept(hub, folder):
    hub.datasets["a/b"] = CONTENT
    name = "shard_00001.parquet"
    hub.faults[name] = [("cut", 5500)]
    hub.broken[name] = ("cut", 0)
    message = refusal()
    assert message.startswith(f"corpus 'hf:a/b': {name}: no connection to {hub.url}, or a broken one: ")
    assert message.endswith("; what came is kept: start again")
    assert len(parts(folder)) >= 1
    del hub.broken[name]
    assert open_corpus("hf:a/b", HERE).files[1].read_bytes() == CONTENT[name]
    assert int(hub.fetched(name)[-1][6:-1]) > 5500 - CHUNK


@pytest.mark.parametrize("fault", [("status", 429, {"Retry_After": "0"}), ("status", 503, {}), ("cut", 0)])
def test_what_passes_is_waited_for(hub, fault):
    hub.datasets["a/b"] = SMALL
    hub.faults[NAMES[1]] = [fault]
    assert open_corpus("hf:a/b", HERE).files[1].read_bytes() == SMALL[NAMES[1]]
    assert len(hub.fetched(NAMES[1])) == 2


# -- what cannot be had ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "status", "headers", "says"),
    [
        ("info", 404, {"X_Error_Code": "RepoNotFound"}, "no such dataset at {url} (404); if it is private, set HF_TOK"),
        ("info", 403, {}, "access denied (403): accept its terms on the hub, and set HF_TOKEN"),
        ("info", 429, {}, "the hub has had too many requests (429); try again later, or set HF_TOKEN"),
        ("info", 500, {}, "the hub answers 500; try again later"),
        ("tree", 429, {"Retry_After": "0"}, "the hub has had too many requests (429); try again later"),
        ("tree", 503, {}, "the hub answers 503; try again later"),
        ("resolve", 401, {"X_Error_Code": "GatedRepo"}, "part-0.parquet: access denied (401): accept its terms on"),
        ("resolve", 404, {"X_Error_Code": "EntryNotFound"}, "part-0.parquet: not found in the dataset (404)"),
        ("resolve", 429, {"Retry_After": "0"}, "part-0.parquet: the hub has had too many requests (429); try again"),
        ("resolve", 500, {}, "part-0.parquet: the hub answers 500; try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(hub, folder, where, status, headers, says):
    hub.datasets["a/b"] = {NAMES[0]: SMALL[NAMES[0]]}
    hub.broken[where] = ("status", status, headers)
    assert refusal().startswith("corpus 'hf:a/b': " + says.format(url=hub.url))
    assert not list(folder.rglob("*.parquet"))
    del hub.broken[where]
    assert names(open_corpus("hf:a/b", HERE)) == ([NAMES[0]], None)


def test_what_is_not_there_is_named(hub):
    hub.datasets["a/b"] = {"README.md": b"# text", "data/a.csv": b"text"}
    assert refusal("hf:no/thing") == (
        f"corpus 'hf:no/thing': no such dataset at {hub.url} (401); if it is private, set HF_TOKEN"
    )
    assert refusal() == "corpus 'hf:a/b': there is no .parquet file in it, and no other can be read"
    assert refusal("hf:a/b/data").startswith("corpus 'hf:a/b/data': there is no .parquet file in it")
    assert refusal("hf:a/b/other") == "corpus 'hf:a/b/other': not found in the dataset (404)"


def test_no_connection_and_no_hub_at_all(hub, monkeypatch):
    hub.stop()
    message = refusal()
    assert message.startswith(f"corpus 'hf:a/b': no connection to {hub.url}, or a broken one: ")


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_shard_of_another_size_than_listed_is_deleted_and_refused(hub, folder, difference):
    hub.datasets["a/b"] = SMALL
    size = len(SMALL[NAMES[1]])
    hub.sizes[NAMES[1]] = size + difference
    message = refusal()
    assert message == (
        f"corpus 'hf:a/b': {NAMES[1]}: came with {size} bytes, and must have {size + difference}; deleted: start again"
    )
    assert not list(folder.rglob(f"*{NAMES[1]}*"))


def test_a_truncated_shard_is_never_taken_for_a_good_one(hub, folder):
    hub.datasets["a/b"] = SMALL
    hub.faults[NAMES[1]] = [("short", 700)]
    assert f"{NAMES[1]}: came with 700 bytes, and must have {len(SMALL[NAMES[1]])}; deleted" in refusal()
    assert not list(folder.rglob(f"*{NAMES[1]}*"))
    assert open_corpus("hf:a/b", HERE).files[1].read_bytes() == SMALL[NAMES[1]]


def test_a_shard_of_another_content_than_listed_is_deleted_and_refused(hub, folder, monkeypatch):
    hub.datasets["a/b"] = SMALL
    entry = Hub.entry

    def lying(self, dataset, path):
        listed = entry(self, dataset, path)
        return listed | {"lfs": {**listed["lfs"], "oid": "0" * 64}} if path == NAMES[1] else listed

    monkeypatch.setattr(Hub, "entry", lying)
    assert refusal() == (
        f"corpus 'hf:a/b': {NAMES[1]}: came with another content than the hub says (sha256); deleted: start again"
    )
    assert not list(folder.rglob(f"*{NAMES[1]}*"))


def test_a_shard_without_text_is_refused_and_not_fetched_twice(hub, folder):
    hub.datasets["a/b"] = SMALL | {NAMES[1]: parquet(["x"], name="content"), NAMES[2]: b"no parquet at all"}
    message = "corpus 'hf:a/b': part-1.parquet: must have a column 'text'; found: content"
    hub.datasets["a/b"][NAMES[2]] = SMALL[NAMES[2]]
    assert refusal() == message
    assert refusal() == message
    assert len(hub.fetched(NAMES[1])) == 1
    assert not list(folder.rglob(NAMES[1]))
    hub.datasets["c/d"] = {"x.parquet": b"no parquet at all"}
    assert refusal("hf:c/d").startswith("corpus 'hf:c/d': x.parquet: cannot be read as parquet: ")


@pytest.mark.parametrize("name", ["../x.parquet", "a\\b.parquet", "/x.parquet"])
def test_a_file_that_would_lie_elsewhere_is_not_fetched(hub, name):
    hub.datasets["a/b"] = {name: SMALL[NAMES[0]]}
    assert refusal() == f"corpus 'hf:a/b': {name!r}: a file of this name is not fetched"


def test_without_the_library_it_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = "needs huggingface_hub: pip install 'pytest-autoresearch[hub]'"
    assert refusal("climbmix") == f"corpus 'climbmix': {message}"
    assert refusal() == f"corpus 'hf:a/b': {message}"


def test_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "file" / "cache"))
    assert refusal() == f"{tmp_path}/file/cache/hub/a--b: the cache cannot be written: Not a directory"


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
    assert {stage for stage, _ in seen} == {"fetching 5 of 5 shards of hf:a/b"}
    done = [share for _, share in seen]
    assert done == sorted(done)
    assert done[-1] == 1
    assert any(0.5 < share < 0.999 for share in done)
    open_corpus("hf:a/b", HERE, progress=progress)
    assert len(seen) == len(done)


def test_ctrl_c_does_not_wait_for_what_is_under_way(hub, folder):
    hub.datasets["a/b"] = CONTENT
    hub.faults["shard_00002.parquet"] = [("wait", 8000)]

    def progress(stage, done):
        if hub.waiting.is_set():
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        open_corpus("hf:a/b", HERE, progress=progress)
    assert time.monotonic() - began < 6
    assert not list(folder.rglob("shard_00002.parquet"))
    hub.go.set()
    assert open_corpus("hf:a/b", HERE).files[2].read_bytes() == CONTENT["shard_00002.parquet"]
    assert hub.fetched("shard_00002.parquet")[-1] != ""


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


def test_prepare_from_the_hub_to_rows_killed_on_the_way_and_again_offline(hub, start, folder):
    hub.datasets["a/b"] = CONTENT
    cut = "shard_00001.parquet"
    hub.faults[cut] = [("wait", 8000)]
    child = start("prepare", "--shards", "2")
    assert hub.waiting.wait(20)
    ready = time.monotonic() + 10
    while not ((here := list(folder.rglob(f".{cut}.*.part"))) and here[0].stat().st_size >= 8000 - CHUNK):
        assert time.monotonic() < ready
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (folder / "a--b" / cut).exists()
    hub.go.set()

    child = start("prepare")  # of two shards: that was asked for
    out, err = child.communicate()
    assert (child.returncode, err.splitlines()[0].partition(" shards of ")[2]) == (0, "hf:a/b")
    assert re.fullmatch(r"track cpu: [\d,]+ training tokens, 544 held out, in \S+\n", out)
    assert int(hub.fetched(cut)[1].removeprefix("bytes=").removesuffix("-")) >= 8000 - CHUNK
    assert [len(hub.fetched(name)) for name in sorted(CONTENT)][2:4] == [0, 0]
    assert {p.name: p.read_bytes() for p in folder.rglob("*.parquet")} == {
        name: CONTENT[name] for name in ["shard_00000.parquet", cut, "shard_06542.parquet"]
    }

    hub.stop()
    child = start("prepare", HF_HUB_OFFLINE="1")
    assert (child.communicate()[0], child.returncode) == (out, 0)


def test_offline_with_a_cold_cache_says_so_and_what_is_no_number_of_shards(hub, start):
    hub.datasets["a/b"] = SMALL
    offline, none = start("prepare", HF_HUB_OFFLINE="1"), start("prepare", "--shards", "0")
    assert offline.communicate()[1] == (
        "autoresearch: corpus 'hf:a/b': is not all in the cache, and HF_HUB_OFFLINE forbids to fetch it; "
        "unset that once\n"
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


# -- exactness ---------------------------------------------------------------------------------------------------------


def plain_rows(paths, encoding, bos, sequence_length, count):
    """Rows as they are described: BOS-aligned best fit over a buffer of 1,000 documents, filled by 128 at a time.

    An endless walk over the files; batches begin anew with each row group. Only rows that the first epoch suffices
    for are returned, at most `count`.
    """
    ended = False

    def walk():
        nonlocal ended
        while True:
            for path in paths:
                file = pq.ParquetFile(path)
                for group in range(file.num_row_groups):
                    documents = file.read_row_group(group).column("text").to_pylist()
                    for start in range(0, len(documents), 128):
                        yield [[bos, *encoding.encode_ordinary(text or "")] for text in documents[start : start + 128]]
            ended = True

    batches, buffer, rows = walk(), [], []
    while len(rows) < count:
        row = []
        while len(row) < sequence_length + 1:
            while len(buffer) < 1000:
                buffer += next(batches)
            if ended:
                return rows
            room = sequence_length + 1 - len(row)
            fits = [document for document in buffer if len(document) <= room]
            chosen = max(fits, key=len) if fits else min(buffer, key=len)  # of equals the first
            del buffer[next(i for i, document in enumerate(buffer) if document is chosen)]
            row += chosen[:room]
        rows.append(row)
    return rows


def plain_tokenizer(paths, vocab_size):
    """Trained on the first 10,000 characters of each document of the training files."""
    texts = [text[:10_000] for path in paths for text in pq.read_table(path).column("text").to_pylist()]
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size - 4, pattern=SPLIT_PATTERN)
    return [bytes(token) for token, _ in sorted(trainer.get_mergeable_ranks(), key=lambda item: item[1])]


def documents(seed, count):
    """Short ones, empty ones, long ones, and a few that are longer than all rows."""
    chance = np.random.default_rng(seed)
    texts = sentences(seed, count, 9)
    for i in chance.choice(count, count // 12, replace=False):
        texts[i] = " ".join(chance.choice(WORDS, chance.integers(40, 200)))
    for i in chance.choice(count, count // 15, replace=False):
        texts[i] = ""
    texts[count // 2] = "word " * 4000
    return texts


def test_prepared_rows_are_those_of_the_plain_algorithm(hub):
    sizes = [[1, 127, 129, 300, 64], [1000, 1], [77] * 20]
    hub.datasets[hub_module.CLIMBMIX] = {
        name: parquet(documents(number, 1800), row_groups)
        for number, (name, row_groups) in enumerate(
            zip(["shard_00000.parquet", "shard_00001.parquet", "shard_06542.parquet"], sizes, strict=True)
        )
    }
    open_corpus("climbmix", HERE, shards=2)
    prepared = prepare("climbmix", root=HERE, vocab_size=400, sequence_length=64, eval_tokens=64 * 120)
    corpus = open_corpus("climbmix", HERE)
    *training, held_out = corpus.files
    tokenizer = Tokenizer.load(prepared.tokenizer_path)
    assert tokenizer.tokens == plain_tokenizer(training, 400)
    assert prepared.heldout_rows.tolist() == plain_rows([held_out], tokenizer.encoding, 396, 64, 120)
    train = plain_rows(training, tokenizer.encoding, 396, 64, 10**9)
    assert len(train) > 200
    assert prepared.train_rows[: len(train)].tolist() == train


MERGED = [b"th", b" t", b"at", b"ca", b"he", b" the"]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    row_groups=st.lists(st.sampled_from([1, 2, 100, 127, 128, 129, 256, 300]), min_size=1, max_size=6),
    merges=st.integers(0, 6),
    sequence_length=st.sampled_from([1, 7, 32, 200]),
)
def test_rows_are_those_of_the_plain_algorithm(tmp_path_factory, seed, row_groups, merges, sequence_length):
    folder = tmp_path_factory.mktemp("rows")
    path, other = folder / "b.parquet", folder / "a.parquet"
    path.write_bytes(parquet([*documents(seed, 1300), None, ""], row_groups))
    other.write_bytes(parquet(["not held out"]))
    corpus = Corpus("x", folder, (other, path), path)
    tokenizer = Tokenizer([bytes([i]) for i in range(256)] + MERGED[:merges])
    rows = pack(tokenise(corpus.documents("held-out"), tokenizer, sequence_length), sequence_length + 1)
    plain = plain_rows([path], tokenizer.encoding, tokenizer.bos, sequence_length, 120)
    assert len(plain) > 10
    assert [row.tolist() for row, _ in zip(rows, plain, strict=False)] == plain


# -- remembered digests ------------------------------------------------------------------------------------------------


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


def test_key_of_a_hub_corpus_is_its_own(hub):
    hub.datasets["a/b"] = SMALL
    options = {"root": HERE, "vocab_size": 300, "sequence_length": 16, "eval_tokens": 64}
    stages = []
    key = data_key("hf:a/b", **options, progress=lambda stage, done: stages.append(stage))
    assert set(stages) == {"fetching 6 of 6 shards of hf:a/b"}
    assert prepare("hf:a/b", **options).key == key
