"""Corpus: the documents of a track, split once and for all into training and held-out text."""

import hashlib
import json
import os
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pytest_autoresearch import BadInput

Split = Literal["train", "held-out"]

# Not part of the library's own text, and not the same on every machine.
_NOT_STDLIB = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


class Document(NamedTuple):
    """One text of a corpus.

    `cut_long`: the text is a whole file, longer than any row by nature; its tokens are cut into consecutive pieces so
    that all of it trains (see `tokenizer.tokenise`). `position` says how much of the corpus was read, 0 to 1.
    """

    text: str
    cut_long: bool
    position: float


@dataclass(frozen=True)
class Corpus:
    """The documents of `files`, all under `folder`, sorted by their relative POSIX path. See `open_corpus`."""

    name: str
    folder: Path
    files: tuple[Path, ...]

    def digest(self) -> str:
        """sha256 (hex) over the relative name and the bytes of every file: the same wherever the corpus lies."""
        total = hashlib.sha256()
        for path in self.files:
            with _reading(path), path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            total.update(os.fsencode(path.relative_to(self.folder).as_posix()) + b"\0" + content)
        return total.hexdigest()

    def documents(self, split: Split) -> Iterator[Document]:
        """Stream one side of the split, in file order; empty documents are dropped.

        A document is held out when its own text hashes to one of twenty, so that equal documents share a side. Of
        text files it is one of ten: they are few and of most unequal size, and at a twentieth "stdlib" would hold
        out too little on some Pythons. One text file alone is one document: there the last tenth is held out.
        """
        only_text = all(path.suffix.lower() in _TEXT for path in self.files)
        if only_text and len(self.files) == 1:
            for document in self._all_documents():
                cut = _last_tenth(document.text)
                text = document.text[:cut] if split == "train" else document.text[cut:]
                if text:
                    yield document._replace(text=text)
            return
        one_in = 10 if only_text else 20
        for document in self._all_documents():
            if document.text and (_hash(document.text) % one_in == 0) == (split == "held-out"):
                yield document

    def _all_documents(self) -> Iterator[Document]:
        sizes = []
        for path in self.files:
            with _reading(path):
                sizes.append(path.stat().st_size)
        total, before = sum(sizes) or 1, 0
        for path, size in zip(self.files, sizes, strict=True):
            suffix = path.suffix.lower()
            try:
                for text, fraction in _READERS[suffix](path):
                    yield Document(text, suffix in _TEXT, min(1.0, (before + size * fraction) / total))
            except UnicodeDecodeError as error:
                if self.name != "stdlib":  # whose few files in other encodings no user could repair
                    raise BadInput(f"{path}: not UTF-8 at byte {error.start}; text must be UTF-8") from None
            before += size


def open_corpus(name: str, root: Path) -> Corpus:
    """The corpus a track calls `name`.

    "stdlib" is the running Python's standard library without its tests; any other name is a path, absolute or
    relative to `root`: a file, or a folder searched for files (hidden ones left out) of .parquet (a string column
    `text`), .jsonl (objects with a string `text`), .txt, .md, .py. BadInput says what is wrong with it.
    """
    if name == "climbmix" or name.startswith("hf:"):
        raise BadInput(f"corpus '{name}': needs a later version; this one reads 'stdlib' and paths")
    if name == "stdlib":
        folder = Path(sysconfig.get_path("stdlib"))
        files = _files_under(folder, {".py"}, lambda part: part in _NOT_STDLIB)
    else:
        folder = root / Path(os.path.expanduser(name))
        if not folder.exists():
            raise BadInput(f"{folder}: no such file or folder; corpus must be 'stdlib' or a path")
        if folder.is_file():
            if folder.suffix.lower() not in _READERS:
                raise BadInput(f"{folder}: cannot read '{folder.suffix}' files; allowed: {', '.join(_READERS)}")
            return Corpus(name, folder.parent, (folder,))
        files = _files_under(folder, set(_READERS), lambda part: part.startswith("."))
    if not files:
        raise BadInput(f"{folder}: no file of text in this folder; allowed: {', '.join(_READERS)}")
    return Corpus(name, folder, files)


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


# -- readers: path → (text, fraction of the file read so far) ----------------------------------------------------------


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_text(path: Path) -> Iterator[tuple[str, float]]:
    with _reading(path):
        text = path.read_text(encoding="utf-8-sig")  # universal newlines; a byte order mark is no text
    yield text, 1.0


def _read_jsonl(path: Path) -> Iterator[tuple[str, float]]:
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
                raise BadInput(f'{path}: line {number}: must be an object with a string "text"') from None
            yield text, done / size


def _read_parquet(path: Path) -> Iterator[tuple[str, float]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with _reading(path), parquet.ParquetFile(path) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            if "text" not in kinds:
                raise BadInput(f"{path}: must have a column 'text'; found: {', '.join(kinds) or 'none'}")
            if kinds["text"] not in (pyarrow.string(), pyarrow.large_string()):
                raise BadInput(f"{path}: column 'text' must be of strings; found: {kinds['text']}")
            for group in range(file.num_row_groups):
                texts = file.read_row_group(group, columns=["text"]).column("text").to_pylist()
                for text in texts:
                    yield text or "", (group + 1) / file.num_row_groups
    except pyarrow.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as parquet: {str(error).partition(chr(10))[0]}") from None


_TEXT = (".txt", ".md", ".py")
_READERS: dict[str, Callable[[Path], Iterator[tuple[str, float]]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    **dict.fromkeys(_TEXT, _read_text),
}
