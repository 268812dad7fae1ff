"""The small words that lines are made of."""

import pytest

from pytest_autoresearch.core.text import counted, cut


@pytest.mark.parametrize(("text", "said"), [("", ""), ("abcd", "abcd"), ("abcde", "abc…")])
def test_what_is_too_long_ends_in_dots(text: str, said: str) -> None:
    assert cut(text, 4) == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials")])
def test_a_number_of_things(number: int, said: str) -> None:
    assert counted(number, "trial") == said
