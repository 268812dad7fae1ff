"""What a loop shows: lines in a pipe, and in a terminal a block below them that is drawn again in place."""

import errno
import io
import os
import re
import sys
from collections.abc import Sequence

import pytest
from fakes import verdict_of
from tqdm.utils import disp_len

from pytest_autoresearch.loop import display
from pytest_autoresearch.loop.display import PipeDisplay, TerminalDisplay, open_display
from pytest_autoresearch.loop.status import AgentStatus, RunStatus, Status
from pytest_autoresearch.loop.status_lines import status_lines

HOSTILE = "\x1b[2J\r\nKEPT \u202e"
TRAINING = RunStatus("rmsnorm", "rmsnorm run 1/3", "training", 0.455, 2.3141, 6.2)
STATUS = Status(
    runs=[TRAINING],
    waiting=["rope", "muon"],
    agents=[AgentStatus(7, 34.2, "halve the depth"), AgentStatus(8, 3.0)],
    verdicts=[verdict_of(), verdict_of(status="keep"), verdict_of()],
    first=2.1591,
    best=2.1003,
    hours=0.5,
    busy=0.874,
    dollars=1.2,
)


# -- the lines --


def test_the_lines_say_what_trains_waits_is_thought_of_and_was_found() -> None:
    assert status_lines(STATUS, 100) == [
        "rmsnorm run 1/3 training █████▍        46%, loss 2.314, 6 s left",
        "2 wait: rope, muon",
        "agent of round 7, 34 s: halve the depth; agent of round 8, 3 s",
        "best 2.1003 (-0.0588 since 2.1591), 3 verdicts, 1 promoted, 6.0 an hour, device busy 87%, $1.20",
    ]


def test_nothing_known_is_nothing_said() -> None:
    assert status_lines(Status(), 80) == ["nothing trains", "nothing waits", "0 verdicts, device busy 0%"]
    assert status_lines(Status(first=2.1, best=2.1), 80)[-1] == "best 2.1000, 0 verdicts, device busy 0%"
    lines = status_lines(Status(runs=[RunStatus("rope")], pause="waits 30 s", stopping="stops after this run"), 80)
    assert lines[0] == "rope …"
    assert lines[2] == "stops after this run; waits 30 s"


@pytest.mark.parametrize("count", range(6))
def test_there_are_at_most_four_lines_however_many_train(count: int) -> None:
    runs = [RunStatus(f"idea_{number}", stage="training", done=0.5) for number in range(count)]
    lines = status_lines(Status(runs=runs, waiting=["rope"], agents=STATUS.agents), 200)
    assert len(lines) == 4
    assert all(f"idea_{number} training" in "\n".join(lines) for number in range(count))
    assert "halve the depth" in lines[2]


def test_a_line_names_as_much_as_fits() -> None:
    names = [f"idea_{number}" for number in range(40)]
    line = status_lines(Status(waiting=names), 40)[1]
    assert line == "40 wait: idea_0, idea_1 and 38 more"
    assert status_lines(STATUS, 50)[-1] == "best 2.1003 (-0.0588 since 2.1591), 3 verdicts"
    assert status_lines(STATUS, 30)[0] == "rmsnorm run 1/3 training 46%"
    agents = [AgentStatus(1, 5.0, "x" * 300), AgentStatus(2, 5.0, "the other one")]
    assert "…; agent of round 2, 5 s: the other one" in status_lines(Status(agents=agents), 90)[2]


@pytest.mark.parametrize("width", [1, 2, 7, 19, 20, 44, 45, 80, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    runs = [RunStatus(HOSTILE * 9, "日本語" * 30, "training", 7.0, 1e300, 1e9)] * 3
    agents = [AgentStatus(1, 1e6, "変更 🚀 " * 40 + HOSTILE)] * 4
    hostile = Status(runs, [HOSTILE] * 9, agents, STATUS.verdicts, 1e9, -1e9, 0.1, 9.0, 1e9, HOSTILE, HOSTILE)
    for status in (hostile, STATUS, Status(), Status(runs[:1], stopping=HOSTILE)):
        lines = status_lines(status, width)
        assert len(lines) <= 4
        assert all(disp_len(line) <= width and line.isprintable() for line in lines)


# -- a pipe --


def test_a_pipe_gets_a_flushed_line_for_each_event_and_nothing_else() -> None:
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    pipe = Pipe()
    shown = open_display(pipe)
    shown.show(STATUS)
    shown.event(f"rope {HOSTILE}")
    assert re.fullmatch(r"\d\d:\d\d rope \\x1b\[2J\\r\\nKEPT \\u202e\n", pipe.flushed)
    shown.close()
    assert pipe.getvalue() == pipe.flushed


def test_a_full_disk_does_not_end_the_loop_but_a_closed_pipe_does() -> None:
    class Stream(io.StringIO):
        def __init__(self, error: OSError) -> None:
            self.error = error
            super().__init__()

        def write(self, text: str) -> int:
            raise self.error

    PipeDisplay(Stream(OSError(errno.ENOSPC, "No space left on device"))).event("rope KEPT")
    with pytest.raises(BrokenPipeError):
        PipeDisplay(Stream(BrokenPipeError(errno.EPIPE, "Broken pipe"))).event("rope KEPT")


def test_what_an_encoding_lacks_is_replaced() -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PipeDisplay(ascii_only).event("1.9 → 1.8")
    assert ascii_only.buffer.getvalue().endswith(b" 1.9 ? 1.8\n")


# -- a terminal --


class Screen(io.StringIO):
    """A terminal: it obeys what the display sends, scrolls, breaks lines, and anew where the window changes."""

    def __init__(self, columns: int = 100, lines: int = 10) -> None:
        super().__init__()
        self.columns, self.lines = columns, lines
        self.rows: list[str] = [""]  # with those that have scrolled off the top
        self.joined = [False]  # whether a row goes on in the next one
        self.row = self.column = 0
        self.wraps = True
        self.writes: list[str] = []

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.columns, self.lines))

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        for token in re.findall(r"\x1b\[\??\d*[A-Za-z]|.", text, re.DOTALL):
            self.obey(token)
        return len(text)

    def obey(self, token: str) -> None:
        if token == "\r":
            self.column = 0
        elif token == "\n":
            self.go_down(False)
        elif token == "\x1b[K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif token == "\x1b[J":
            self.rows[self.row :] = [self.rows[self.row][: self.column]]
            self.joined[self.row :] = [False]
        elif token in ("\x1b[?7l", "\x1b[?7h"):
            self.wraps = token[-1] == "h"
        elif match := re.fullmatch(r"\x1b\[(\d+)A", token):
            top = max(len(self.rows) - self.lines, 0)
            self.row = max(self.row - int(match[1]), top)
        else:
            assert token.isprintable()
            if self.column == self.columns:
                assert self.wraps, "a line of the block is too long"
                self.go_down(True)
                self.column = 0
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + token + row[self.column + 1 :]
            self.column += 1

    def go_down(self, joined: bool) -> None:
        self.joined[self.row] = joined
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self.joined.append(False)

    def resize(self, columns: int) -> None:
        """Break lines anew, as most terminals do. The cursor stays where it is in the text, here at the end."""
        text = "".join(row + "\n" * (not joined) for row, joined in zip(self.rows, self.joined, strict=True))
        self.__init__(columns, self.lines)  # type: ignore[misc]
        self.write(text.removesuffix("\n").replace("\n", "\r\n"))
        self.writes.clear()

    @property
    def shown(self) -> list[str]:
        """The rows without the times of events."""
        return [re.sub(r"^\d\d:\d\d ", "> ", row.rstrip()) for row in self.rows]


class Clock:
    """A time that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shown(screen: Screen, clock: Clock) -> TerminalDisplay:
    return TerminalDisplay(screen, screen.size, clock)


def block(status: Status, width: int = 99) -> Sequence[str]:
    return [line.rstrip() for line in status_lines(status, width)]


def test_events_scroll_above_a_block_that_stays_last(shown: TerminalDisplay, screen: Screen, clock: Clock) -> None:
    shown.event("begins")
    for number in range(20):
        clock.now += 1
        status = Status([TRAINING] * (number % 4), ["rope"] * (number % 3), STATUS.agents * (number % 2))
        shown.show(status)
        shown.event(f"event {number}" + " and more" * 20 * (number % 5 == 0))
    said = [f"> event {number}" for number in range(20)]
    assert [row[:10].rstrip() for row in screen.shown if row[:7] == "> event"] == [line[:10] for line in said]
    assert screen.shown[0] == "> begins"
    assert screen.shown[-len(block(status)) :] == block(status)
    assert len(screen.rows) == 1 + 20 + 4 + len(block(status))  # four events fill two rows
    shown.close()
    assert screen.shown[-2:] == ["> event 19", ""]
    shown.event("the end")
    assert screen.shown[-3:] == ["> event 19", "> the end", ""]


def test_a_shorter_block_leaves_nothing_of_a_longer_one(shown: TerminalDisplay, screen: Screen, clock: Clock) -> None:
    shown.event("begins")
    clock.now = 1
    shown.show(STATUS)
    assert screen.shown == ["> begins", *block(STATUS)]
    clock.now = 2
    shown.show(Status())
    assert screen.shown == ["> begins", *block(Status())]


def test_it_is_drawn_only_if_it_has_changed_and_five_times_a_second_at_most(
    shown: TerminalDisplay, screen: Screen, clock: Clock
) -> None:
    for step in range(100):
        clock.now = step / 50
        shown.show(Status(agents=[AgentStatus(step, 0.0)]))
    assert len(screen.writes) == 10
    for step in range(100):
        clock.now = 10 + step
        shown.show(STATUS)
    assert len(screen.writes) == 11


def test_a_redraw_erases_no_line_before_it_is_written_and_leaves_the_terminal_as_it_was(
    shown: TerminalDisplay, screen: Screen, clock: Clock
) -> None:
    shown.show(Status())
    clock.now = 1
    shown.show(STATUS)
    first, second = screen.writes
    assert second.startswith("\r\x1b[2A")
    assert second.index("best") < second.index("\x1b[J")
    assert all(text.endswith("\x1b[?7h") and "\x1b[?25l" not in text for text in (first, second))


@pytest.mark.parametrize("columns", [130, 60, 37, 16])
def test_a_resized_window_is_drawn_anew_in_place(
    columns: int, shown: TerminalDisplay, screen: Screen, clock: Clock
) -> None:
    screen.lines = 24
    shown.event("begins")
    clock.now = 1
    shown.show(STATUS)
    screen.resize(columns)
    clock.now = 2
    shown.show(STATUS)
    assert screen.shown == ["> begins", *block(STATUS, columns - 1)]
    shown.event("goes on")
    assert screen.shown == ["> begins", "> goes on", *block(STATUS, columns - 1)]


def test_a_low_window_keeps_a_row_for_the_last_event(shown: TerminalDisplay, screen: Screen) -> None:
    screen.lines = 3
    shown.event("begins")
    shown.show(STATUS)
    shown.event("goes on")
    assert screen.shown == ["> begins", "> goes on", *block(STATUS)[-2:]]


# -- which of them --


def test_a_terminal_that_cannot_move_its_cursor_is_a_pipe(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(open_display(screen), TerminalDisplay)
    assert type(open_display(io.StringIO())) is PipeDisplay
    for term in ("dumb", ""):
        monkeypatch.setenv("TERM", term)
        assert type(open_display(screen)) is PipeDisplay
    monkeypatch.delenv("TERM")
    assert type(open_display(screen)) is PipeDisplay


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_the_size_is_the_terminals_own_at_each_moment() -> None:
    import pty
    import termios

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        termios.tcsetwinsize(theirs, (0, 0))
        assert display.terminal_size(stream) == (80, 24)
        termios.tcsetwinsize(theirs, (7, 33))
        assert display.terminal_size(stream) == (33, 7)
    os.close(ours)
