"""How a candidate loads its program."""

from pathlib import Path

from pytest_autoresearch.candidate.__main__ import load_program


def test_a_comment_is_a_comment_whatever_encoding_it_declares(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("# coding: utf_7\nRATE = 1\n#+AAo-RATE = 2\n", encoding="utf-8")
    assert load_program(program).RATE == 1
