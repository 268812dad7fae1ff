"""data/tokenizer.py: training, the stored file, raw byte lengths, and documents as tokens."""

import base64
import os
import random
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data import tokenizer as tokenizer_module
from pytest_autoresearch.data.corpus import Document
from pytest_autoresearch.data.tokenizer import Tokenizer, tokenise, train_tokenizer, training_texts

WORDS = ["the", "token", "naïve", "été", "漢字", "日本語", "don't", "2024", "\t\n   ", "self.value", "x[i] ==", "🙂"]


def some_text(seed=0, words=3000):
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) + str(chance.randrange(300)) for _ in range(words))


def tokenised(*arguments):
    """The sequences of all batches, one after the other."""
    return chain.from_iterable(tokenise(*arguments))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([some_text(seed) for seed in range(3)], 400)


# -- training ----------------------------------------------------------------------------------------------------------


def test_vocabulary_is_bytes_then_merges_then_four_special_tokens(tokenizer):
    assert sorted(tokenizer.tokens[:256]) == [bytes([i]) for i in range(256)]
    assert tokenizer.vocab_size == tokenizer.encoding.n_vocab == 400
    assert tokenizer.bos == 396
    assert [tokenizer.encoding.decode([i]) for i in range(396, 400)] == [f"<|reserved_{i}|>" for i in range(4)]


def test_training_twice_gives_the_same_file_whatever_the_hash_seed(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from pytest_autoresearch.data.tokenizer import train_tokenizer\n"
        "train_tokenizer(Path(sys.argv[1]).read_text().split('|'), 400).save(Path(sys.argv[2]))\n"
    )
    (tmp_path / "text").write_text("|".join(some_text(seed, 500) for seed in range(20)))
    for seed in "012":
        command = [sys.executable, "-c", script, str(tmp_path / "text"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("vocab_size", [-1, 0, 259, 65_537])
def test_vocab_size_out_of_range_is_refused_before_anything_is_read(vocab_size):
    def unread():
        raise AssertionError
        yield ""

    with pytest.raises(UsageError, match=f"vocab_size = {vocab_size}: must be from 260 to 65536"):
        train_tokenizer(unread(), vocab_size)


def test_text_too_small_for_the_vocabulary_is_refused_with_what_it_reaches():
    with pytest.raises(UsageError, match=r"vocab_size = 300: .* reaches only 262$"):
        train_tokenizer(["aab"], 300)  # two merges: aa, aab
    assert train_tokenizer(["aab"], 262).tokens[256:] == [b"aa", b"aab"]
    assert train_tokenizer([], 260).vocab_size == 260


def test_training_texts_caps_documents_but_not_files(monkeypatch):
    documents = [Document("a" * 30_000, False, 0), Document("b" * 30_000, True, 0.5), Document("c" * 30_000, False, 1)]
    assert [len(text) for text in training_texts(documents)] == [10_000, 30_000, 10_000]
    monkeypatch.setattr(tokenizer_module, "MAX_TRAINING_CHARACTERS", 35_000)
    assert [len(text) for text in training_texts(documents)] == [10_000, 25_000]
    monkeypatch.setattr(tokenizer_module, "MAX_TRAINING_CHARACTERS", 42_000)
    assert [len(text) for text in training_texts(documents)] == [10_000, 30_000, 10_000]  # a document is never cut


# -- the stored file ---------------------------------------------------------------------------------------------------


def test_file_is_tiktokens_own_format_and_loads_to_the_same_tokens(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.tiktoken"
    tokenizer.save(path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert load_tiktoken_bpe(str(path)) == {token: rank for rank, token in enumerate(tokenizer.tokens)}
    loaded = Tokenizer.load(path)
    assert loaded.tokens == tokenizer.tokens
    assert loaded.encode([some_text(9)]) == tokenizer.encode([some_text(9)])
    assert (loaded.bos, loaded.vocab_size) == (tokenizer.bos, tokenizer.vocab_size)


@pytest.mark.parametrize("content", [b"\x00\xff", b"YQ== 1\n", b"YQ== 0\nYQ== 1\n", b"YQ==\n", b"!! 0\n"])
def test_file_that_is_no_tokenizer_is_refused_by_name(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UsageError, match=r"/t: cannot be read as a tokenizer; must hold lines of 'base64 rank'"):
        Tokenizer.load(tmp_path / "t")


# -- running -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(), max_size=4))
def test_encoding_keeps_text_and_bytes(tokenizer, texts):
    for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
        assert tokenizer.encoding.decode(tokens) == text
        assert tokenizer.token_bytes[tokens].sum() == len(text.encode())


def test_byte_lengths_are_raw(tokenizer):
    [[*pieces]] = tokenizer.encode(["\U0001f9ff"])  # seen nowhere in training: four tokens of one byte each
    assert len(pieces) > 1
    assert "\ufffd" in tokenizer.encoding.decode(pieces[:1])
    assert tokenizer.token_bytes[pieces].sum() == 4
    assert tokenizer.token_bytes.shape == (400,)
    assert tokenizer.token_bytes[396:].tolist() == [0, 0, 0, 0]
    assert tokenizer.token_bytes[:396].tolist() == [len(token) for token in tokenizer.tokens]


def test_special_tokens_in_text_are_plain_text(tokenizer):
    [tokens] = tokenizer.encode(["<|reserved_0|>"])
    assert max(tokens) < tokenizer.bos
    assert tokenizer.encoding.decode(tokens) == "<|reserved_0|>"


# -- documents as tokens -----------------------------------------------------------------------------------------------


def test_whole_documents_stay_whole_and_files_are_cut_into_pieces_with_bos(tokenizer):
    texts = [some_text(seed, 40) for seed in range(300)]
    documents = [Document(text, i % 2 == 0, 0) for i, text in enumerate(texts)]
    pieces = tokenised(documents, tokenizer, 16)
    for document, tokens in zip(documents, tokenizer.encode(texts), strict=True):
        step = 16 if document.cut_long else len(tokens)
        for start in range(0, len(tokens), step):
            piece = next(pieces)
            assert piece.dtype == "uint16"
            assert piece.tolist() == [tokenizer.bos, *tokens[start : start + step]]
    assert next(pieces, None) is None


def test_token_ids_fill_all_of_uint16():
    tokens = [bytes([i]) for i in range(256)] + [i.to_bytes(3, "big") for i in range(65_532 - 256)]
    [piece] = tokenised([Document("a", False, 0)], Tokenizer(tokens), 8)
    assert piece.tolist() == [65_532, ord("a")]


@pytest.mark.parametrize("cut_long", [True, False])
def test_long_texts_are_encoded_in_parts_that_lose_nothing(tokenizer, monkeypatch, cut_long):
    monkeypatch.setattr(tokenizer_module, "PART_CHARACTERS", 50)
    texts = ["line\n" * 70 + "x" * 130 + "\n" + some_text(1, 60), "short", "y" * 151]
    pieces = list(tokenised([Document(text, cut_long, 0) for text in texts], tokenizer, 16))
    assert tokenizer.encoding.decode([int(t) for piece in pieces for t in piece[1:]]) == "".join(texts)
    assert len(pieces) == 3 or cut_long
    assert sum(len(piece) < 17 for piece in pieces) <= 3  # only a document's last piece is short


LETTERS = ["the", "token", "naïve", "été", "漢字", "don't", "s", "ll", "E"]
SIGNS = ["", " ", "  ", "\n", "\n\n ", " \n", "'", ", ", "... ", " 42", "2024 ", "\u0301", "-", "\t"]


@given(words=st.lists(st.tuples(st.sampled_from(LETTERS), st.sampled_from(SIGNS)), max_size=60))
def test_a_document_that_is_encoded_in_parts_has_the_tokens_it_would_have_whole(tokenizer, words):
    text = "".join(f"{sign}{word}" for word, sign in words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "PART_CHARACTERS", 40)
        [piece] = tokenised([Document(text, False, 0)], tokenizer, 16)
    assert piece.tolist() == [tokenizer.bos, *tokenizer.encoding.encode_ordinary(text)]


def test_an_empty_document_is_a_lone_bos(tokenizer):
    assert [piece.tolist() for piece in tokenised([Document("", False, 0)] * 2, tokenizer, 16)] == [[tokenizer.bos]] * 2


def test_batches_end_with_row_groups_and_pieces_of_files_run_on(tokenizer):
    groups = [(Path("a"), 0)] * 130 + [(Path("a"), 1)] * 3 + [(Path("b"), 1)] * 128
    documents = [Document("a b", False, 0, group) for group in groups]
    assert [len(batch) for batch in tokenise(documents, tokenizer, 16)] == [128, 2, 3, 128]
    files = [Document("a b" * 70, True, 0)] * 3
    *full, last = [len(batch) for batch in tokenise(files, tokenizer, 2)]
    assert set(full) == {128}
    assert sum(full) + last == 3 * len(list(tokenised(files[:1], tokenizer, 2)))


def test_a_run_of_millions_of_blanks_is_text_too():
    documents = [Document("one two " * 10, True, 0), Document(" " * 2_500_000 + "x", True, 1)]
    tokenizer = train_tokenizer(training_texts(documents), 262)
    pieces = tokenised(documents[1:], tokenizer, 1000)
    assert sum(int(tokenizer.token_bytes[piece].sum()) for piece in pieces) == 2_500_001


def test_stored_lines_are_rank_order(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t")
    lines = (tmp_path / "t").read_text().splitlines()
    assert [int(line.split()[1]) for line in lines] == list(range(396))
    assert base64.b64decode(lines[300].split()[0]) == tokenizer.tokens[300]
