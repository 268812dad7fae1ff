"""Prepared: the tokenizer and the rows of tokens of a track in the cache."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_autoresearch.data.cache import cache_folder

if TYPE_CHECKING:  # numpy and the tokenizer are imported only where they are used: computing a key needs neither
    import numpy as np
    from numpy.typing import NDArray

TOKENIZER, TRAIN, HELDOUT = "tokenizer.tiktoken", "train.bin", "heldout.bin"


@dataclass(frozen=True)
class Prepared:
    """The data of a track. A row has sequence_length + 1 tokens: the inputs and, shifted by one, the targets."""

    key: str
    folder: Path
    vocab_size: int
    sequence_length: int

    @classmethod
    def of(cls, key: str, vocab_size: int, sequence_length: int) -> "Prepared":
        """The data with this key in this machine's cache. It may not exist yet: `prepare` makes it."""
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
        """A file descriptor of the training rows, through which a candidate cannot write.

        A read-only descriptor alone is not enough: the same user can reopen the file for writing under /proc. So the
        descriptor is of a sealed copy in memory, made once. Outside Linux there are no seals, and the copy must not
        take more than a quarter of the free memory: then the descriptor is of the file itself.
        """
        if copy := self._sealed_train_rows:
            with suppress(OSError):  # no /proc
                return os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY)
        return os.open(self.train_path, os.O_RDONLY)

    @cached_property
    def _sealed_train_rows(self) -> "IO[bytes] | None":
        return _sealed_copy(self.train_path)

    @property
    def token_bytes(self) -> "NDArray[np.int64]":
        """(vocab_size,): raw length of each token in bytes, 0 for special tokens."""
        from pytest_autoresearch.data.tokenizer import Tokenizer

        return Tokenizer.load(self.tokenizer_path).token_bytes

    def _rows(self, path: Path) -> "NDArray[np.uint16]":
        import numpy as np

        return np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, self.sequence_length + 1)


def _sealed_copy(path: Path) -> "IO[bytes] | None":
    """A copy in memory that no process can write to, grow or shrink; None if it cannot be made."""
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
    """Bytes of memory that can be had without swapping, by the kernel's estimate (Linux)."""
    return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024
