"""Corpus: the documents of a track, each on one side of the split, and the readers of their files."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import Digests

if TYPE_CHECKING:
    import pyarrow.parquet

Split = Literal["train", "held-out"]


class Document(NamedTuple):
    """One text of a corpus.

    `cut_long`: the text is a whole file, so it is usually longer than a row. Its tokens are cut into consecutive
    pieces, and all of it trains (see `tokenizer.tokenise`). `position` is the share of the corpus read so far, 0 to 1.
    `row_group` is the row group of a parquet file that holds the text; batches of documents end with it.
    """

    text: str
    cut_long: bool
    position: float
    row_group: tuple[Path, int] | None = None


@dataclass(frozen=True)
class Corpus:
    """The documents of `files`, all under `folder`, sorted by relative POSIX path. `sources.open_corpus` makes it.

    The documents of the files in `held_out` are held out. If there are none, a hash of each document's text decides.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()

    def digest(self) -> str:
        """sha256 (hex) over the relative name and the bytes of every file, and over which files are held out.

        It does not depend on where the corpus lies. A big file is read only if it has changed since the last time.
        """
        total, digests = hashlib.sha256(), Digests()
        for path in self.files:
            with _reading(path):
                content = bytes.fromhex(digests.sha256(path))
            total.update(self._relative(path) + b"\0" + content)
        digests.save()
        for path in self.held_out:
            total.update(b"held out\0" + self._relative(path))
        return total.hexdigest()

    def _relative(self, path: Path) -> bytes:
        return os.fsencode(path.relative_to(self.folder).as_posix())

    def documents(self, split: Split) -> Iterator[Document]:
        """Stream one side of the split, in file order.

        - With `held_out` files, these are one side and all other files are the other, empty documents of parquet files
          included.
        - A single text file is one document: its last tenth is held out.
        - Otherwise empty documents are dropped, and one document in twenty is held out, by the hash of its text, so
          that equal documents are on the same side. If all files are text files it is one in ten: they are few and of
          very unequal size.
        """
        if self.held_out:
            side = [path for path in self.files if (path in self.held_out) == (split == "held-out")]
            yield from (document for document in self._documents_of(side) if document.text or not document.cut_long)
            return
        only_text = all(path.suffix.lower() in TEXT_SUFFIXES for path in self.files)
        if only_text and len(self.files) == 1:
            for document in self._documents_of(self.files):
                cut = _last_tenth(document.text)
                text = document.text[:cut] if split == "train" else document.text[cut:]
                if text:
                    yield document._replace(text=text)
            return
        one_in = 10 if only_text else 20
        for document in self._documents_of(self.files):
            if document.text and (_hash(document.text) % one_in == 0) == (split == "held-out"):
                yield document

    def _documents_of(self, files: Sequence[Path]) -> Iterator[Document]:
        sizes = []
        for path in files:
            with _reading(path):
                sizes.append(path.stat().st_size)
        total, before = sum(sizes) or 1, 0
        for path, size in zip(files, sizes, strict=True):
            suffix = path.suffix.lower()
            try:
                for text, fraction, group in READERS[suffix](path):
                    position = min(1.0, (before + size * fraction) / total)
                    yield Document(text, suffix in TEXT_SUFFIXES, position, None if group is None else (path, group))
            except UnicodeDecodeError as error:
                if self.name != "stdlib":  # a few of its files have other encodings, and no user can change them
                    raise UsageError(f"{path}: not UTF-8 at byte {error.start}; text must be UTF-8") from None
            before += size


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _last_tenth(text: str) -> int:
    """Index of the first line that starts in the last tenth of `text`; nine tenths of its length if none does."""
    plain = len(text) * 9 // 10
    cut = text.find("\n", plain) + 1
    return cut if 0 < cut < len(text) else plain


# -- readers: path → (text, fraction of the file read so far, number of its row group) --------------------------------

_Text = tuple[str, float, int | None]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_text(path: Path) -> Iterator[_Text]:
    with _reading(path):
        text = path.read_text(encoding="utf-8-sig")  # universal newlines; a byte order mark is dropped
    yield text, 1.0, None


def _read_jsonl(path: Path) -> Iterator[_Text]:
    with _reading(path), path.open("rb") as file:
        size, done = os.fstat(file.fileno()).st_size, 0
        for number, line in enumerate(file, 1):
            done += len(line)
            if line.isspace():
                continue
            try:
                text = json.loads(line)["text"]
                text.encode()  # JSON may hold half a surrogate pair, which no encoding can write
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise UsageError(f'{path}: line {number}: must be an object with a string "text"') from None
            yield text, done / size, None


def _read_parquet(path: Path) -> Iterator[_Text]:
    done = 0
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            for rows in file.iter_batches(1024, row_groups=[group], columns=["text"]):
                for text in rows.column("text").to_pylist():
                    done += 1
                    yield text or "", done / file.metadata.num_rows, group


@contextmanager
def open_parquet(path: Path) -> "Iterator[pyarrow.parquet.ParquetFile]":
    """A parquet file with a string column `text`. UsageError if it has none, or if reading it in the block fails."""
    import pyarrow
    from pyarrow import parquet

    try:
        with _reading(path), parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            if "text" not in kinds:
                raise UsageError(f"{path}: must have a column 'text'; found: {', '.join(kinds) or 'none'}")
            if kinds["text"] not in (pyarrow.string(), pyarrow.large_string()):
                raise UsageError(f"{path}: column 'text' must be of strings; found: {kinds['text']}")
            yield file
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path}: cannot be read as parquet: {str(error).partition(chr(10))[0]}") from None


TEXT_SUFFIXES = (".txt", ".md", ".py")
READERS: dict[str, Callable[[Path], Iterator[_Text]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    **dict.fromkeys(TEXT_SUFFIXES, _read_text),
}
