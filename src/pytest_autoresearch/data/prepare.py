"""Prepare: a track's corpus as tokenizer and rows of tokens, built once and kept in a cache."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import Progress, locked, sha256_of, silent
from pytest_autoresearch.data.cache import cache_folder as cache_folder  # for those who ask for it here
from pytest_autoresearch.data.corpus import Corpus, Document, open_corpus

if TYPE_CHECKING:  # numpy and the tokenizer load only where they are used: a key must cost nothing
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 2
"""Raised whenever the same corpus and settings would give other files."""

TOKENIZER, TRAIN, HELDOUT, META = "tokenizer.tiktoken", "train.bin", "heldout.bin", "meta.json"


@dataclass(frozen=True)
class Prepared:
    """The data of a track. A row holds sequence_length + 1 tokens: inputs and, shifted by one, targets."""

    key: str
    folder: Path
    vocab_size: int
    sequence_length: int

    @classmethod
    def of(cls, key: str, vocab_size: int, sequence_length: int) -> "Prepared":
        """The data of that key in the cache of this machine, where `prepare` has put them."""
        return cls(key, cache_folder() / "data" / key, vocab_size, sequence_length)

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / TOKENIZER

    @property
    def train_path(self) -> Path:
        return self.folder / TRAIN

    @property
    def heldout_path(self) -> Path:
        return self.folder / HELDOUT

    @property
    def train_rows(self) -> "NDArray[np.uint16]":
        """(N, sequence_length + 1), memory-mapped and read-only, in corpus order."""
        return self._rows(self.train_path)

    @property
    def heldout_rows(self) -> "NDArray[np.uint16]":
        """(eval_tokens // sequence_length, sequence_length + 1), memory-mapped and read-only."""
        return self._rows(self.heldout_path)

    def open_train_rows(self) -> int:
        """A file descriptor of the training rows that nobody can write through, to hand to a candidate.

        A read-only descriptor of a file of one's own can be opened again for writing under /proc; a sealed copy in
        memory cannot (Linux; elsewhere, and where it would take a quarter of what is free, the file itself). The copy
        is made once.
        """
        return self._open(self.train_path)

    def open_heldout_rows(self) -> int:
        """The same of the held-out rows."""
        return self._open(self.heldout_path)

    def _open(self, path: Path) -> int:
        if path not in self._copies:
            self._copies[path] = _sealed_copy(path)
        if copy := self._copies[path]:
            with suppress(OSError):  # no /proc
                return os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY)
        return os.open(path, os.O_RDONLY)

    @cached_property
    def _copies(self) -> "dict[Path, IO[bytes] | None]":
        return {}

    @property
    def token_bytes(self) -> "NDArray[np.int64]":
        """(vocab_size,): raw length of each token in bytes, 0 for special tokens."""
        from pytest_autoresearch.data.tokenizer import Tokenizer

        return Tokenizer.load(self.tokenizer_path).token_bytes

    def _rows(self, path: Path) -> "NDArray[np.uint16]":
        import numpy as np

        return np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, self.sequence_length + 1)


def _sealed_copy(path: Path) -> "IO[bytes] | None":
    """A file in memory that can be read and nothing else; None where that is not to be had."""
    try:
        import fcntl

        if 4 * path.stat().st_size > _memory_available():
            return None
        copy = os.fdopen(os.memfd_create("rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb")
        with path.open("rb") as file:
            shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except (ImportError, AttributeError, OSError, LookupError, ValueError):
        return None
    return copy


def _memory_available() -> int:
    """Bytes, as the kernel estimates them (Linux)."""
    return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024


def data_key(
    corpus_name: str,
    *,
    root: Path,
    vocab_size: int,
    sequence_length: int,
    eval_tokens: int,
    progress: Progress = silent,
) -> str:
    """16 hex digits that name the data: the corpus's content, the settings and the format.

    Reads all of the corpus, but for big files that it has read before; one from the hub is fetched first.
    """
    corpus = open_corpus(corpus_name, root, progress=progress)
    return _key(_settings(corpus, vocab_size, sequence_length, eval_tokens))


def prepare(
    corpus_name: str,
    *,
    root: Path,
    vocab_size: int,
    sequence_length: int,
    eval_tokens: int,
    progress: Progress = silent,
) -> Prepared:
    """The data of a track: from the cache, or built into it by one process while others wait.

    UsageError when the corpus cannot be read, the settings do not fit it, or the cache cannot be written.
    """
    if not 1 <= sequence_length <= eval_tokens:
        raise UsageError(f"eval_tokens = {eval_tokens}: must be at least sequence_length = {sequence_length}")
    corpus = open_corpus(corpus_name, root, progress=progress)
    settings = _settings(corpus, vocab_size, sequence_length, eval_tokens)
    folder = cache_folder() / "data" / _key(settings)
    prepared = Prepared(folder.name, folder, vocab_size, sequence_length)
    try:
        if not _fault(folder, settings):
            return prepared
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock", progress, "prepares data"):
            fault = _fault(folder, settings)  # another process may have built it while this one waited
            if not fault:
                return prepared
            for stale in folder.parent.glob("*.building"):
                shutil.rmtree(stale)
            if folder.exists():
                progress(f"{folder}: {fault}; building again", 1.0)
                shutil.rmtree(folder)
            building = folder.with_name(folder.name + ".building")
            try:
                building.mkdir()
                _build(corpus, building, vocab_size, sequence_length, eval_tokens, progress)
                _write_meta(building, settings)
                building.rename(folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except OSError as error:  # the corpus's own errors are UsageError already
        raise UsageError(f"{folder.parent}: the cache cannot be written: {error.strerror or error}") from None
    return prepared


def _settings(corpus: Corpus, vocab_size: int, sequence_length: int, eval_tokens: int) -> dict[str, int | str]:
    return {
        "format": FORMAT,
        "corpus": corpus.digest(),
        "vocab_size": vocab_size,
        "sequence_length": sequence_length,
        "eval_tokens": eval_tokens,
    }


def _key(settings: dict[str, int | str]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


# -- building ----------------------------------------------------------------------------------------------------------


def _build(
    corpus: Corpus, folder: Path, vocab_size: int, sequence_length: int, eval_tokens: int, progress: Progress
) -> None:
    """Write tokenizer, held-out rows and training rows into `folder`; held-out first, for it may be found too small."""
    from pytest_autoresearch.data.packing import pack
    from pytest_autoresearch.data.tokenizer import Tokenizer, tokenise, train_tokenizer, training_texts

    def watched(documents: Iterable[Document], stage: str) -> Iterator[Document]:
        for document in documents:
            progress(stage, document.position * 0.999)  # done only when what was read is also worked off
            yield document

    def rows(documents: Iterable[Document], tokenizer: Tokenizer) -> "Iterator[NDArray[np.uint16]]":
        return pack(tokenise(documents, tokenizer, sequence_length), sequence_length + 1)

    stage = "training the tokenizer"
    tokenizer = train_tokenizer(training_texts(watched(corpus.documents("train"), stage)), vocab_size)
    tokenizer.save(folder / TOKENIZER)
    progress(stage, 1.0)

    stage = "tokenising held-out text"
    wanted = eval_tokens // sequence_length
    got = _write_rows(folder / HELDOUT, islice(rows(watched(corpus.documents("held-out"), stage), tokenizer), wanted))
    if got < wanted:
        raise UsageError(
            f"corpus '{corpus.name}': eval_tokens = {eval_tokens}: its held-out text gives at most "
            f"{got * sequence_length} at sequence_length = {sequence_length}"
        )
    progress(stage, 1.0)

    stage = "tokenising training text"
    if not _write_rows(folder / TRAIN, rows(watched(corpus.documents("train"), stage), tokenizer)):
        raise UsageError(f"corpus '{corpus.name}': its training text does not fill one row of {sequence_length} tokens")
    progress(stage, 1.0)


def _write_rows(path: Path, rows: "Iterable[NDArray[np.uint16]]") -> int:
    """Stream rows to `path`; returns how many."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(row.tobytes())
            count += 1
    return count


# -- cache -------------------------------------------------------------------------------------------------------------


def _write_meta(folder: Path, settings: dict[str, int | str]) -> None:
    files = {}
    for name in (TOKENIZER, TRAIN, HELDOUT):
        stat = (folder / name).stat()
        files[name] = {"sha256": sha256_of(folder / name), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    (folder / META).write_text(json.dumps({"settings": settings, "files": files}, indent=1), encoding="utf-8")


def _fault(folder: Path, settings: dict[str, int | str]) -> str | None:
    """What is wrong with a cached folder, in a few words; None when it may be used.

    Sizes and times are compared; only a file whose time differs is read again.
    """
    try:
        meta = json.loads((folder / META).read_bytes())
        if meta["settings"] != settings:
            return f"{META} is of other data"
        for name in (TOKENIZER, TRAIN, HELDOUT):
            recorded, stat = meta["files"][name], (folder / name).stat()
            if stat.st_size != recorded["size"]:
                return f"{name} has {stat.st_size} bytes, not {recorded['size']}"
            if stat.st_mtime_ns != recorded["mtime_ns"] and sha256_of(folder / name) != recorded["sha256"]:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, LookupError, TypeError):
        return f"{META} cannot be read"
    return None


# -- progress ----------------------------------------------------------------------------------------------------------


def progress_bar(stream: TextIO) -> Progress:
    """A Progress that redraws one line on a terminal, and in a pipe prints each stage's name once."""
    current, drawn, named = "", 0.0, set[str]()

    def show(stage: str, done: float) -> None:
        nonlocal current, drawn
        if not stream.isatty():
            if stage not in named:
                print(stage, file=stream, flush=True)
            named.add(stage)
            return
        now = time.monotonic()
        if stage == current and done < 1 and now - drawn < 0.1:
            return
        bar = f" [{'#' * round(20 * done):20}] {done:4.0%}" if done < 1 else "\n"
        left_open = "\n" if current and stage != current else ""
        stream.write(f"{left_open}\r\x1b[K{stage}{bar}")
        stream.flush()
        current, drawn = ("" if done >= 1 else stage), now

    return show
