"""data/corpus.py: what is a document, on which side it lands, and what is said about unusable text."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.corpus import Corpus
from pytest_autoresearch.data.sources import open_corpus


def texts(corpus, *splits):
    return [document.text for split in splits or ("train", "held-out") for document in corpus.documents(split)]


def write_parquet(path, column, name="text", **options):
    pq.write_table(pa.table({name: column}), path, **options)


def write_jsonl(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def refusal(name, root):
    """The message with which a corpus is refused, on opening or on reading; always one line."""
    with pytest.raises(UsageError) as caught:
        texts(open_corpus(name, root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- files -------------------------------------------------------------------------------------------------------------


def test_folder_is_searched_in_order_of_relative_path_and_hidden_files_are_left_out(tmp_path):
    for name in ["b.txt", "a/z.md", "a.b/c.py", ".git/config.txt", ".hidden.txt", "picture.png", "B.TXT"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    corpus = open_corpus(".", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in corpus.files] == ["B.TXT", "a.b/c.py", "a/z.md", "b.txt"]


def test_a_path_may_be_absolute_or_relative_to_the_root(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    assert open_corpus("a.jsonl", tmp_path).files == open_corpus(str(tmp_path / "a.jsonl"), Path("/nowhere")).files


def test_digest_depends_on_names_and_bytes_but_not_on_the_place(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "a.txt").write_text("one")
    (here / "b.txt").write_text("two")
    shutil.copytree(here, there)
    digest = open_corpus("here", tmp_path).digest()
    assert open_corpus("there", tmp_path).digest() == digest

    (there / "b.txt").write_text("twO")
    assert open_corpus("there", tmp_path).digest() != digest
    (there / "b.txt").write_text("two")
    (there / "b.txt").rename(there / "c.txt")
    assert open_corpus("there", tmp_path).digest() != digest


def test_stdlib_is_text_without_tests_or_packages():
    corpus = open_corpus("stdlib", Path("/nowhere"))
    names = {path.relative_to(corpus.folder).as_posix() for path in corpus.files}
    assert {"ast.py", "json/decoder.py"} <= names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("/"))]
    sizes = {split: sum(len(d.text) for d in corpus.documents(split)) for split in ("train", "held-out")}
    assert sizes["train"] > 8_000_000
    assert sizes["held-out"] > 370_000  # the cpu track evaluates on 131,072 tokens of 2.7 bytes


# -- split -------------------------------------------------------------------------------------------------------------


def in_hash_class(text, one_in):
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) % one_in == 0


def test_one_document_of_twenty_is_held_out_by_its_hash(tmp_path):
    everything = [f"document {i} é" for i in range(2000)]
    write_jsonl(tmp_path / "a.jsonl", everything)
    corpus = open_corpus("a.jsonl", tmp_path)
    assert texts(corpus, "held-out") == [text for text in everything if in_hash_class(text, 20)]
    assert texts(corpus, "train") == [text for text in everything if not in_hash_class(text, 20)]
    assert 60 < len(texts(corpus, "held-out")) < 140


def test_one_text_file_of_ten_is_held_out_and_files_are_cut(tmp_path):
    everything = [f"file {i:03}" for i in range(200)]
    for i, text in enumerate(everything):
        (tmp_path / f"{i:03}.md").write_text(text)
    corpus = open_corpus(".", tmp_path)
    assert texts(corpus, "held-out") == [text for text in everything if in_hash_class(text, 10)]
    assert texts(corpus, "train") == [text for text in everything if not in_hash_class(text, 10)]
    assert all(document.cut_long for document in corpus.documents("train"))


def test_equal_documents_share_a_side_whatever_file_they_are_in(tmp_path):
    everything = [f"document {i}" for i in range(300)]
    write_jsonl(tmp_path / "a.jsonl", everything)
    write_parquet(tmp_path / "b.parquet", everything)
    for i, text in enumerate(everything):
        (tmp_path / f"{i}.txt").write_text(text)
    corpus = open_corpus(".", tmp_path)
    train, held_out = texts(corpus, "train"), texts(corpus, "held-out")
    assert held_out
    assert not set(train) & set(held_out)
    assert len(train) + len(held_out) == 900
    assert {d.cut_long for d in corpus.documents("train")} == {True, False}


@pytest.mark.parametrize("as_folder", [True, False])
def test_of_a_single_text_file_the_last_tenth_is_held_out_from_a_line_start(tmp_path, as_folder):
    lines = [f"line {i}\n" for i in range(1000)]
    (tmp_path / "book.txt").write_text("".join(lines))
    corpus = open_corpus("." if as_folder else "book.txt", tmp_path)
    [train], [held_out] = texts(corpus, "train"), texts(corpus, "held-out")
    assert train + held_out == "".join(lines)
    assert train.endswith("\n")
    assert len(held_out) == pytest.approx(len(train) / 9, rel=0.02)


@pytest.mark.parametrize("text", ["x" * 1000, "x" * 999 + "\n", "\n" + "x" * 999])
def test_a_single_text_file_of_one_line_is_cut_within_it(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert [len(part) for part in texts(open_corpus("a.txt", tmp_path))] == [900, 100]


# -- text --------------------------------------------------------------------------------------------------------------


def test_text_is_kept_but_for_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\tthree\rfour\n\x00\xc3\xa9")
    (tmp_path / "b.txt").write_bytes(b"")
    assert texts(open_corpus(".", tmp_path)) == ["one\ntwo\tthree\nfour\n\0é"]


def test_empty_documents_are_dropped(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["", None, "x", ""])
    write_jsonl(tmp_path / "b.jsonl", ["", "y"])
    (tmp_path / "c.jsonl").write_text("")
    assert sorted(texts(open_corpus(".", tmp_path))) == ["x", "y"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_parquet_is_read_through_all_row_groups(tmp_path, kind):
    everything = [f"document {i}\r\n" for i in range(100)]
    write_parquet(tmp_path / "a.parquet", pa.array(everything, kind), row_group_size=7)
    corpus = open_corpus("a.parquet", tmp_path)
    assert sorted(texts(corpus)) == sorted(everything)  # line ends too: parquet says what its text is
    positions = [document.position for document in corpus.documents("train")]
    assert positions == sorted(positions)
    assert positions[0] < 0.1
    assert positions[-1] == 1


def test_jsonl_may_have_blank_lines_and_no_last_line_end(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x", "id": 1}\r\n\n{"text": "y"}')
    assert sorted(texts(open_corpus("a.jsonl", tmp_path))) == ["x", "y"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_text_that_is_not_utf8_is_refused_by_name_but_skipped_in_stdlib(tmp_path):
    (tmp_path / "good.py").write_text("good")
    (tmp_path / "latin.py").write_bytes(b"caf\xe9")
    assert refusal(".", tmp_path) == f"{tmp_path}/latin.py: not UTF-8 at byte 3; text must be UTF-8"
    stdlib = Corpus("stdlib", tmp_path, open_corpus(".", tmp_path).files)
    assert texts(stdlib) == ["good"]


@pytest.mark.parametrize(
    "line",
    ["{", '"text"', "[]", "null", "3", '{"txt": "x"}', '{"text": 3}', '{"text": null}', '{"text": "\\ud800"}', "\xe9"],
)
def test_jsonl_line_that_is_no_document_is_refused_by_number(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' + line.encode("latin-1") + b"\n")
    assert refusal("a.jsonl", tmp_path) == f'{tmp_path}/a.jsonl: line 2: must be an object with a string "text"'


def test_parquet_without_text_is_refused(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["x"], name="content")
    assert refusal("a.parquet", tmp_path).endswith("a.parquet: must have a column 'text'; found: content")
    write_parquet(tmp_path / "b.parquet", [1, 2])
    assert refusal("b.parquet", tmp_path).endswith("b.parquet: column 'text' must be of strings; found: int64")
    (tmp_path / "c.parquet").write_bytes(b"not parquet at all")
    assert "c.parquet: cannot be read as parquet: " in refusal("c.parquet", tmp_path)
    (tmp_path / "d.parquet").write_bytes(b"")
    assert "d.parquet: cannot be read as parquet: " in refusal("d.parquet", tmp_path)


def test_what_is_no_corpus_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").write_bytes(b"")
    assert "missing: no such file or folder" in refusal("missing", tmp_path)
    assert "empty: no file of text in this folder; allowed: .parquet, .jsonl, .txt" in refusal("empty", tmp_path)
    assert "picture.png: cannot read '.png' files; allowed: .parquet" in refusal("picture.png", tmp_path)
    with pytest.raises(UsageError, match=r"^--shards 3: corpus 'stdlib' has no shards; only 'climbmix' and 'hf:"):
        open_corpus("stdlib", tmp_path, shards=3)


def test_file_that_vanished_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    corpus = open_corpus("a.txt", tmp_path)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UsageError, match=r"a\.txt: cannot be read: No such file"):
        corpus.digest()
    with pytest.raises(UsageError, match=r"a\.txt: cannot be read: No such file"):
        texts(corpus)
