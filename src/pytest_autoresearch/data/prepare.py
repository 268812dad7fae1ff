"""Prepare: make a tokenizer and rows of tokens from a corpus, once, and keep them in the cache."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import Digests, locked, sha256_of
from pytest_autoresearch.data.corpus import Corpus, Document
from pytest_autoresearch.data.prepared import HELDOUT, TOKENIZER, TRAIN, Prepared
from pytest_autoresearch.data.progress import Progress, silent
from pytest_autoresearch.data.sources import open_corpus

if TYPE_CHECKING:  # numpy and the tokenizer are imported only where they are used: computing a key needs neither
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 2
"""Raise it when a change makes other files from the same corpus and settings."""

META, FILES = "meta.json", (TOKENIZER, TRAIN, HELDOUT)


def data_key(corpus_name: str, *, root: Path, progress: Progress = silent, **sizes: int) -> str:
    """16 hex digits that depend on the content of the corpus, the format and the sizes, which are those of `prepare`.

    Reads the corpus, except for big files that have not changed since it was last read. Fetches it if necessary.
    """
    return _key(_settings(open_corpus(corpus_name, root, progress=progress), **sizes))


def prepare(
    corpus_name: str,
    *,
    root: Path,
    vocab_size: int,
    sequence_length: int,
    eval_tokens: int,
    progress: Progress = silent,
) -> Prepared:
    """The data of a track, from the cache. If it is not there, one process builds it and others wait.

    UsageError when the corpus cannot be read, the settings do not fit it, or the cache cannot be written.
    """
    if not 1 <= sequence_length <= eval_tokens:
        raise UsageError(f"eval_tokens = {eval_tokens}: must be at least sequence_length = {sequence_length}")
    corpus = open_corpus(corpus_name, root, progress=progress)
    settings = _settings(corpus, vocab_size, sequence_length, eval_tokens)
    prepared = Prepared.of(_key(settings), vocab_size, sequence_length)
    folder = prepared.folder
    try:
        if _fault(folder, settings):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.parent / ".lock", progress, "prepares data"):
                if fault := _fault(folder, settings):  # another process may have built it meanwhile
                    if folder.exists():
                        progress(f"{folder}: {fault}; building again", 1.0)
                    _build_anew(corpus, prepared, settings, eval_tokens, progress)
    except OSError as error:  # errors of the corpus are UsageErrors already
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


def _build(corpus: Corpus, prepared: Prepared, eval_tokens: int, progress: Progress) -> None:
    """Write tokenizer, held-out rows and training rows into the folder of `prepared`, which exists.

    It writes the held-out rows first. If the held-out text is too short, this is known before the longer part.
    """
    from pytest_autoresearch.data.packing import pack
    from pytest_autoresearch.data.tokenizer import Tokenizer, tokenise, train_tokenizer, training_texts

    length = prepared.sequence_length

    def watched(documents: Iterable[Document], stage: str) -> Iterator[Document]:
        for document in documents:
            progress(stage, document.position * 0.999)  # 1 is reported at the end of the stage
            yield document

    def rows(documents: Iterable[Document], tokenizer: Tokenizer) -> "Iterator[NDArray[np.uint16]]":
        return pack(tokenise(documents, tokenizer, length), length + 1)

    stage = "training the tokenizer"
    texts = training_texts(watched(corpus.documents("train"), stage))
    tokenizer = train_tokenizer(texts, prepared.vocab_size)
    tokenizer.save(prepared.tokenizer_path)
    progress(stage, 1.0)

    stage = "tokenising held-out text"
    wanted = eval_tokens // length
    held_out = rows(watched(corpus.documents("held-out"), stage), tokenizer)
    got = _write_rows(prepared.heldout_path, islice(held_out, wanted))
    if got < wanted:
        raise UsageError(
            f"corpus '{corpus.name}': eval_tokens = {eval_tokens}: its held-out text gives at most "
            f"{got * length} at sequence_length = {length}"
        )
    progress(stage, 1.0)

    stage = "tokenising training text"
    if not _write_rows(prepared.train_path, rows(watched(corpus.documents("train"), stage), tokenizer)):
        raise UsageError(f"corpus '{corpus.name}': its training text does not fill one row of {length} tokens")
    progress(stage, 1.0)


def _write_rows(path: Path, rows: "Iterable[NDArray[np.uint16]]") -> int:
    """Stream rows to `path`. Returns how many there were."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(row.tobytes())
            count += 1
    return count


# -- the folder in the cache -------------------------------------------------------------------------------------------


def _build_anew(
    corpus: Corpus, prepared: Prepared, settings: dict[str, int | str], eval_tokens: int, progress: Progress
) -> None:
    """Build in a folder beside that of `prepared`, and rename it when it is complete. The caller holds the lock."""
    folder = prepared.folder
    for stale in folder.parent.glob("*.building"):
        shutil.rmtree(stale)
    if folder.exists():
        shutil.rmtree(folder)
    building = folder.with_name(folder.name + ".building")
    try:
        building.mkdir()
        _build(corpus, replace(prepared, folder=building), eval_tokens, progress)
        files = {name: sha256_of(building / name) for name in FILES}
        (building / META).write_text(json.dumps({"settings": settings, "files": files}, indent=1), encoding="utf-8")
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _fault(folder: Path, settings: dict[str, int | str]) -> str | None:
    """Why a folder of the cache cannot be used, in a few words; None if it can."""
    digests = Digests()
    try:
        meta = json.loads((folder / META).read_bytes())
        if meta["settings"] != settings:
            return f"{META} is of other data"
        for name in FILES:
            if digests.sha256(folder / name) != meta["files"][name]:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, LookupError, TypeError):
        return f"{META} cannot be read"
    digests.save()
    return None
