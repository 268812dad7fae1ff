"""Tokenizer: byte pair encoding, trained by rustbpe and run by tiktoken, and documents as tokens."""

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import rustbpe
import tiktoken
from numpy.typing import NDArray

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import VOCAB_SIZES
from pytest_autoresearch.data.corpus import Document

# Split pattern and special tokens as in karpathy/autoresearch, prepare.py: GPT-4's pattern, numbers by two digits.
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = tuple(f"<|reserved_{i}|>" for i in range(4))  # the first is BOS
MAX_TRAINING_CHARACTERS = 1_000_000_000
MAX_DOCUMENT_CHARACTERS = 10_000  # of a document that is not a whole file
PART_CHARACTERS = 500_000
BATCH = 128  # texts

T = TypeVar("T")


class Tokenizer:
    """Turns text into tokens. Tokens 0 … n-1 stand for the byte strings `tokens`; the four special tokens follow."""

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = tokens
        self.vocab_size = len(tokens) + len(SPECIAL_TOKENS)
        self.bos = len(tokens)
        self.encoding = tiktoken.Encoding(
            "pytest-autoresearch",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={name: len(tokens) + i for i, name in enumerate(SPECIAL_TOKENS)},
        )

    @cached_property
    def token_bytes(self) -> NDArray[np.int64]:
        """Raw length of each token in bytes, (vocab_size,); 0 for special tokens.

        Decoding a token to text would give a wrong length: a part of a UTF-8 character decodes to U+FFFD, three bytes.
        """
        return np.array([len(token) for token in self.tokens] + [0] * len(SPECIAL_TOKENS), dtype=np.int64)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text, without BOS. The name of a special token in a text is plain text."""
        return self.encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)

    def save(self, path: Path) -> None:
        """Write tiktoken's own format: a line `base64 rank` for each token."""
        lines = (b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(self.tokens))
        path.write_bytes(b"".join(lines))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a file that `save` wrote. UsageError names it if it is damaged.

        tiktoken's own reader would return the old content of a changed file, because it caches by path.
        """
        try:
            ranked = [line.split() for line in path.read_bytes().splitlines()]
            tokens = [base64.b64decode(token, validate=True) for token, _ in ranked]
            if [int(rank) for _, rank in ranked] != list(range(len(tokens))) or len(set(tokens)) < len(tokens):
                raise ValueError
        except (OSError, ValueError):
            raise UsageError(f"{path}: cannot be read as a tokenizer; must hold lines of 'base64 rank'") from None
        return cls(tokens)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn `vocab_size` tokens, the special tokens included. Equal texts give an equal tokenizer.

    UsageError when vocab_size is out of range, or the texts have too few different pairs to merge.
    """
    if vocab_size not in VOCAB_SIZES:
        raise UsageError(f"vocab_size = {vocab_size}: must be from {VOCAB_SIZES[0]} to {VOCAB_SIZES[-1]}")
    wanted = vocab_size - len(SPECIAL_TOKENS)
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), wanted, pattern=SPLIT_PATTERN)
    ranks = sorted(trainer.get_mergeable_ranks(), key=lambda item: item[1])
    tokens = list(dict.fromkeys(bytes(token) for token, _ in ranks))
    if len(tokens) < wanted:
        reached = len(tokens) + len(SPECIAL_TOKENS)
        raise UsageError(f"vocab_size = {vocab_size}: the training text is too small and reaches only {reached}")
    return Tokenizer(tokens)


def training_texts(documents: Iterable[Document]) -> Iterator[str]:
    """The texts to train a tokenizer on: up to 10,000 characters of a document, all of a whole file; 1e9 in total."""
    left = MAX_TRAINING_CHARACTERS
    for document in documents:
        beginning = [document.text[:MAX_DOCUMENT_CHARACTERS]]
        for text in _parts(document.text, _line_end) if document.cut_long else beginning:
            yield text[:left] if document.cut_long else text  # the original does not cut the last document either
            left -= len(text)
            if left <= 0:
                return


def tokenise(
    documents: Iterable[Document], tokenizer: Tokenizer, sequence_length: int
) -> Iterator[list[NDArray[np.uint16]]]:
    """Documents as tokens, (n,) each, which begin with BOS, in batches for the buffer of `pack`.

    A batch has 128 documents, or those left at the end of a parquet row group. A `cut_long` document becomes
    consecutive pieces of up to sequence_length tokens, each with its own BOS. All pieces but the last fill a row
    exactly, so packing drops almost nothing of a long file. An empty document gives BOS alone.
    """
    for _, of_one_group in groupby(documents, key=lambda document: document.row_group):
        yield from _batches(_tokenised(of_one_group, tokenizer, sequence_length))


def _tokenised(
    documents: Iterable[Document], tokenizer: Tokenizer, sequence_length: int
) -> Iterator[NDArray[np.uint16]]:
    bos = np.array([tokenizer.bos], dtype=np.uint16)
    parts = (
        (number, document.cut_long, part)
        for number, document in enumerate(documents)
        for part in _parts(document.text, _line_end if document.cut_long else _word_end)
    )
    encoded = (
        (number, cut_long, np.array(tokens, dtype=np.uint16))
        for batch in _batches(parts)
        for (number, cut_long, _), tokens in zip(batch, tokenizer.encode([part for *_, part in batch]), strict=True)
    )
    for (_, cut_long), of_one_document in groupby(encoded, key=lambda item: item[:2]):
        tokens = np.concatenate([tokens for *_, tokens in of_one_document])
        step = sequence_length if cut_long else len(tokens) or 1
        for start in range(0, len(tokens) or 1, step):
            yield np.concatenate((bos, tokens[start : start + step]))


def _parts(text: str, cut: Callable[[str, int, int], int]) -> Iterator[str]:
    """`text` in parts of at most PART_CHARACTERS; each ends where `cut(text, start, end)` says.

    There are two reasons: the regex engine of rustbpe and tiktoken panics on a run of a million blanks, and the tokens
    of a file of gigabytes, as one list of Python integers, do not fit into memory.
    """
    start = 0
    while start + PART_CHARACTERS < len(text):
        end = cut(text, start, start + PART_CHARACTERS)
        yield text[start:end]
        start = end
    yield text[start:]


def _line_end(text: str, start: int, end: int) -> int:
    """The end of the last line that ends in text[start:end]; `end` if none does."""
    return text.rfind("\n", start, end) + 1 or end


def _word_end(text: str, start: int, end: int) -> int:
    """The end of the last word that ends in text[start:end]; `end` if none does, where a cut may change tokens.

    A cut at the end of a word changes no token: a match of SPLIT_PATTERN that holds letters ends with its last letter,
    and the pattern never looks back.
    """
    ends = (i for i in range(end, start, -1) if text[i - 1].isalpha() and not text[i].isalpha())
    return next(ends, end)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, BATCH)), [])
