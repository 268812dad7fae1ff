"""A hub on localhost that huggingface_hub takes for the real one, and parquet files to put there."""

import hashlib
import io
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 1000  # bytes that are reported at once; huggingface_hub's own 10 MB are more than these files have
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


class Hub(ThreadingHTTPServer):
    """What huggingface_hub asks for: dataset info, tree (in pages of three), resolve, a CDN with ranges.

    `faults[path]` are used up one by one by the downloads of that file, `broken[where]` is the answer to every request
    there: ("status", code, headers), ("cut", n) closes the connection after n bytes, ("wait", n) stops there until
    `go` is set, ("stall", n) does both, ("short", n) has only n bytes and says so.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Speaker)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.cdn = self.url.replace("127.0.0.1", "localhost")  # another host, as the real one: a HEAD must not follow
        self.datasets, self.faults, self.broken = {}, {}, {}
        self.requests, self.waiting, self.go = [], Event(), Event()
        self.commit = "c0ffee" * 6 + "beef"
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def entry(self, dataset, path):
        content = self.datasets[dataset][path]
        return {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}

    def fetched(self, path):
        """The Range headers with which a file was asked for; "" for all of it."""
        return [wanted for kind, at, wanted in self.requests if (kind, at) == ("GET", f"/cdn/{path}")]

    def stop(self):
        self.go.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Prints nothing when a client has been killed."""


class Speaker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it costs 40 ms an answer

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        hub, url = self.server, urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/cdn/"):
            return self.send_file(path.removeprefix("/cdn/"))
        match = re.fullmatch(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        dataset, kind, revision, rest = match.groups()
        if fault := hub.broken.get(kind or "info"):
            return self.answer(fault[1], b"", **fault[2])
        if dataset not in hub.datasets:
            return self.answer(401, b"{}")  # so the real one answers those whom it does not know
        if kind is None:
            return self.say({"id": dataset, "sha": hub.commit})
        if revision not in (hub.commit, "main"):
            return self.answer(404, b"", X_Error_Code="RevisionNotFound")
        there = hub.datasets[dataset]
        if kind == "resolve":
            if rest not in there:
                return self.answer(404, b"", X_Error_Code="EntryNotFound")
            linked = {"X_Linked_Size": str(len(there[rest])), "X_Linked_Etag": hashlib.sha256(there[rest]).hexdigest()}
            return self.answer(302, b"", Location=f"{hub.cdn}/cdn/{rest}", X_Repo_Commit=hub.commit, **linked)
        inside = [name for name in there if not rest or name.startswith(rest + "/")]
        if not inside:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        folders = {name.rpartition("/")[0] for name in inside} - {"", rest}
        entries = [{"type": "directory", "path": name, "oid": "1" * 40} for name in folders]
        entries += [hub.entry(dataset, name) for name in inside]
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        more = f'<{hub.url}{url.path}?cursor={start + 3}>; rel="next"' if len(entries) > start + 3 else ""
        return self.say(entries[start : start + 3], **({"Link": more} if more else {}))

    do_HEAD = do_GET

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
        end = start + how[0] if kind in ("cut", "wait", "stall") else None
        self.answer(206 if start else 200, content[start:], send=content[start:end], Accept_Ranges="bytes", **ranged)
        if kind in ("wait", "stall"):
            hub.waiting.set()
            hub.go.wait(20)
        if kind == "wait":
            self.wfile.write(content[end:])
        if kind in ("cut", "stall"):
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
