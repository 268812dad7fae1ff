"""Rows and tokenizer from parquet shards, against the algorithm of karpathy/autoresearch written down plainly."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import rustbpe
from hub_server import WORDS, parquet, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.data import hub as hub_module
from pytest_autoresearch.data.corpus import Corpus
from pytest_autoresearch.data.packing import pack
from pytest_autoresearch.data.prepare import prepare
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.data.tokenizer import SPLIT_PATTERN, Tokenizer, tokenise

HERE = Path()


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
    corpus = Corpus("x", folder, (other, path), (path,))
    tokenizer = Tokenizer([bytes([i]) for i in range(256)] + MERGED[:merges])
    rows = pack(tokenise(corpus.documents("held-out"), tokenizer, sequence_length), sequence_length + 1)
    plain = plain_rows([path], tokenizer.encoding, tokenizer.bos, sequence_length, 120)
    assert len(plain) > 10
    assert [row.tolist() for row, _ in zip(rows, plain, strict=False)] == plain
