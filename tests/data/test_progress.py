"""data/progress.py: what a terminal and a pipe show of the stages of a long piece of work."""

import io

from pytest_autoresearch.data.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def play(stream):
    show = show_progress(stream)
    for stage, done in [("one", 0.0), ("one", 0.5), ("one", 1.0), ("two", 0.25), ("message", 1.0), ("one", 1.0)]:
        show(stage, done)
    return stream.getvalue()


def test_in_a_pipe_each_stage_is_one_line():
    assert play(io.StringIO()) == "one\ntwo\nmessage\n"


def test_on_a_terminal_each_stage_has_a_bar_and_a_message_has_none():
    one, two, message, again, rest = [line.rpartition("\r")[2].rstrip() for line in play(Terminal()).split("\n")]
    assert one.startswith("one 100% |####################| 00:0")
    assert two.startswith("two  25% |#####               | 00:0")
    assert (message, again, rest) == ("message", "one", "")
