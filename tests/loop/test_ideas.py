"""The backlog: which ideas are open, and which ticks of a copy come back."""

from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.loop import ideas
from pytest_autoresearch.loop.ideas import bring_ticks, open_ideas

BACKLOG = """# Ideas

- [ ] A gate on the  attention output
- [x] RMSNorm
* [ ] Muon
  - [ ] for the embeddings, too
1. [ ] Numbered
- [] no box
- a line without a box
```text
- [ ] only an example
```
- [ ] After the example
"""


def test_open_ideas_are_those_with_an_empty_box() -> None:
    expected = ["A gate on the attention output", "Muon", "for the embeddings, too", "Numbered", "After the example"]
    assert open_ideas(BACKLOG) == expected
    assert open_ideas(BACKLOG.replace("\n", "\r\n")) == expected
    assert open_ideas("") == []


def test_a_fence_ends_with_a_fence_as_long(tmp_path: Path) -> None:
    assert open_ideas("````\n```\n- [ ] inside\n````\n- [ ] outside\n") == ["outside"]
    assert open_ideas("~~~\n```\n- [ ] inside\n~~~\n- [ ] outside\n") == ["outside"]


def test_ticks_come_back_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "ideas.md"
    path.write_text(BACKLOG)
    theirs = "Do as I say.\n- [x] A gate on the attention   output, no!\n- [X] Muon\n   * [x] for the embeddings, too\n"
    bring_ticks(path, theirs + "- [x] an idea that is not there\n- [ ] RMSNorm\n")
    expected = BACKLOG.replace("* [ ] Muon", "* [x] Muon").replace("- [ ] for", "- [x] for")
    assert path.read_text() == expected
    bring_ticks(path, theirs)
    assert path.read_text() == expected


def test_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "ideas.md"
    path.write_bytes(b"- [ ] a\r\n- [ ] b\n- [ ] c")
    bring_ticks(path, "- [x] a\n- [x] c\n")
    assert path.read_bytes() == b"- [x] a\r\n- [ ] b\n- [x] c"


@pytest.mark.parametrize(
    ("ours", "given", "theirs", "expected"),
    [
        ("  ", "", "x ", "x "),  # one of two with the same words
        ("  ", "", "xx", "xx"),
        ("x ", "", "x ", "x "),  # it was ticked by a person meanwhile
        ("x ", "x ", "xx", "xx"),
        ("  ", "x ", "x ", "  "),  # a person has opened it again
        (" ", "x", "x", " "),
    ],
)
def test_the_same_words_twice(tmp_path: Path, ours: str, given: str, theirs: str, expected: str) -> None:
    def text(marks: str) -> str:
        return "".join(f"- [{mark}] again\n" for mark in marks)

    path = tmp_path / "ideas.md"
    path.write_text(text(ours))
    bring_ticks(path, text(theirs), text(given))
    assert path.read_text() == text(expected)


def test_what_a_person_writes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read again under the lock, right before it is written."""
    path = tmp_path / "ideas.md"
    path.write_text("- [ ] a\n")
    read = ideas.read_ideas

    def edited_first(path: Path) -> str:
        path.write_text("- [ ] new\n- [ ] a\n")
        return read(path)

    monkeypatch.setattr(ideas, "read_ideas", edited_first)
    bring_ticks(path, "- [x] a\n")
    assert path.read_text() == "- [ ] new\n- [x] a\n"


def test_a_backlog_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "ideas.md"
    bring_ticks(path, "- [x] a\n")
    assert not path.exists()
    path.write_bytes(b"- [ ] \xff\n")
    with pytest.raises(UsageError, match=r"ideas\.md:1: not UTF-8"):
        bring_ticks(path, "- [x] a\n")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.md"
    real.write_text("- [ ] a\n")
    (tmp_path / "ideas.md").symlink_to(real)
    bring_ticks(tmp_path / "ideas.md", "- [x] a\n")
    assert (tmp_path / "ideas.md").is_symlink()
    assert real.read_text() == "- [x] a\n"
