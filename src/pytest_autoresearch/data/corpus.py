"""Corpus: the documents of a track, split once and for all into training and held-out text."""

import hashlib
import json
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import Digests, Progress, silent

if TYPE_CHECKING:
    import pyarrow.parquet

Split = Literal["train", "held-out"]
_Text = tuple[str, float, int | None]

# Not part of the library's own text, and not the same on every machine.
_NOT_STDLIB = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


class Document(NamedTuple):
    """One text of a corpus.

    `cut_long`: the text is a whole file, longer than any row by nature; its tokens are cut into consecutive pieces so
    that all of it trains (see `tokenizer.tokenise`). `position` says how much of the corpus was read, 0 to 1.
    `row_group` is the one of a parquet file that it lies in, where batches of documents end.
    """

    text: str
    cut_long: bool
    position: float
    row_group: tuple[Path, int] | None = None


@dataclass(frozen=True)
class Corpus:
    """The documents of `files`, all under `folder`, sorted by their relative POSIX path. See `open_corpus`.

    `held_out` is the one of them whose documents are held out; without one, the text of each document decides.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    held_out: Path | None = None

    def digest(self) -> str:
        """sha256 (hex) over the relative name and the bytes of every file, and over which one is held out.

        It is the same wherever the corpus lies. Big files are read only where they were not read before.
        """
        total, digests = hashlib.sha256(), Digests()
        for path in self.files:
            with _reading(path):
                content = bytes.fromhex(digests.sha256(path))
            total.update(self._relative(path) + b"\0" + content)
        digests.save()
        if self.held_out:
            total.update(b"held out\0" + self._relative(self.held_out))
        return total.hexdigest()

    def _relative(self, path: Path) -> bytes:
        return os.fsencode(path.relative_to(self.folder).as_posix())

    def documents(self, split: Split) -> Iterator[Document]:
        """Stream one side of the split, in file order.

        Where a file is held out it is that file, or all others, whole and with their empty documents. Otherwise
        empty documents are dropped, and one is held out when its own text hashes to one of twenty, so that equal
        documents share a side. Of text files it is one of ten: they are few and of most unequal size, and at a
        twentieth "stdlib" would hold out too little on some Pythons. One text file alone is one document: there the
        last tenth is held out.
        """
        if self.held_out:
            yield from self._documents_of(
                [path for path in self.files if (path == self.held_out) == (split == "held-out")]
            )
            return
        only_text = all(path.suffix.lower() in _TEXT for path in self.files)
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
                for text, fraction, group in _READERS[suffix](path):
                    position = min(1.0, (before + size * fraction) / total)
                    yield Document(text, suffix in _TEXT, position, None if group is None else (path, group))
            except UnicodeDecodeError as error:
                if self.name != "stdlib":  # whose few files in other encodings no user could repair
                    raise UsageError(f"{path}: not UTF-8 at byte {error.start}; text must be UTF-8") from None
            before += size


def open_corpus(name: str, root: Path, *, shards: int | None = None, progress: Progress = silent) -> Corpus:
    """The corpus a track calls `name`.

    "stdlib" is the running Python's standard library without its tests; "climbmix" and "hf:<dataset>[/folder]" lie on
    the hub (see `hub.open_hub_corpus`, which `shards` is for) and are fetched where the cache lacks them; any other
    name is a path, absolute or relative to `root`: a file, or a folder searched for files (hidden ones left out) of
    .parquet (a string column `text`), .jsonl (objects with a string `text`), .txt, .md, .py. UsageError says what is
    wrong with it.
    """
    if _lies_on_the_hub(name):
        from pytest_autoresearch.data.hub import open_hub_corpus

        return open_hub_corpus(name, shards, progress)
    if shards is not None:
        raise UsageError(f"--shards {shards}: corpus '{name}' has no shards; only 'climbmix' and 'hf:<dataset>' have")
    if name == "stdlib":
        folder = Path(sysconfig.get_path("stdlib"))
        files = _files_under(folder, {".py"}, lambda part: part in _NOT_STDLIB)
    else:
        folder = root / Path(os.path.expanduser(name))
        if not folder.exists():
            raise UsageError(
                f"{folder}: no such file or folder; corpus must be 'stdlib', 'climbmix', 'hf:<dataset>' or a path"
            )
        if folder.is_file():
            if folder.suffix.lower() not in _READERS:
                raise UsageError(f"{folder}: cannot read '{folder.suffix}' files; allowed: {', '.join(_READERS)}")
            return Corpus(name, folder.parent, (folder,))
        files = _files_under(folder, set(_READERS), lambda part: part.startswith("."))
    if not files:
        raise UsageError(f"{folder}: no file of text in this folder; allowed: {', '.join(_READERS)}")
    return Corpus(name, folder, files)


def is_here(name: str) -> bool:
    """Whether a corpus can be opened without fetching anything."""
    if not _lies_on_the_hub(name):
        return True
    from pytest_autoresearch.data.hub import is_fetched

    return is_fetched(name)


def _lies_on_the_hub(name: str) -> bool:
    return name == "climbmix" or name.startswith("hf:")


def _files_under(folder: Path, suffixes: set[str], skip: Callable[[str], bool]) -> tuple[Path, ...]:
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = [part for part in folders if not skip(part)]
        found += [Path(here, name) for name in names if not skip(name)]
    usable = [path for path in found if path.suffix.lower() in suffixes and path.is_file()]
    return tuple(sorted(usable, key=lambda path: path.relative_to(folder).as_posix()))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _last_tenth(text: str) -> int:
    """Where the last tenth of `text` begins: at the first line past nine tenths, or plainly there if none is."""
    plain = len(text) * 9 // 10
    cut = text.find("\n", plain) + 1
    return cut if 0 < cut < len(text) else plain


# -- readers: path → (text, fraction of the file read so far, number of its row group) --------------------------------


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_text(path: Path) -> Iterator[_Text]:
    with _reading(path):
        text = path.read_text(encoding="utf-8-sig")  # universal newlines; a byte order mark is no text
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
                text.encode()  # half a surrogate pair is valid JSON but no text
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
    """A parquet file with a string column `text`. UsageError when it has none or, in the block, cannot be read."""
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


_TEXT = (".txt", ".md", ".py")
_READERS: dict[str, Callable[[Path], Iterator[_Text]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    **dict.fromkeys(_TEXT, _read_text),
}
