"""Prepared: the tokenizer and the rows of tokens of a track in the cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

    @property
    def token_bytes(self) -> "NDArray[np.int64]":
        """(vocab_size,): raw length of each token in bytes, 0 for special tokens."""
        from pytest_autoresearch.data.tokenizer import Tokenizer

        return Tokenizer.load(self.tokenizer_path).token_bytes

    def _rows(self, path: Path) -> "NDArray[np.uint16]":
        import numpy as np

        return np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, self.sequence_length + 1)
