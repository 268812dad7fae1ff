"""The monitor of a session: a live line for each run, plain lines in a pipe, a status file, pytest-timeout's timer."""

import io
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest
from tqdm import tqdm

from pytest_autoresearch.core.records import Record
from pytest_autoresearch.core.text import fitting, one_line
from pytest_autoresearch.judging.progress import BAR_WIDTH, FORMAT, run_details
from pytest_autoresearch.plugin.settings import uncaptured
from pytest_autoresearch.plugin.status_file import StatusFile
from pytest_autoresearch.referee.executor import RunProgress, RunResult

if TYPE_CHECKING:
    from pytest_autoresearch.judging.monitor import OnProgress

SAVE, RESTORE, CLEAR = "\x1b7", "\x1b8", "\x1b[K"
LIVE_WIDTH = 60  # columns that a live line needs


class PytestMonitor:
    """Receives the progress of a session and shows it; an xdist worker shows nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self.item: pytest.Item | None = None
        """The item whose timer watches the next runs."""
        self.status = StatusFile(config.getoption("--ar-status"))
        self._config = config
        self._reporter: pytest.TerminalReporter | None = None
        if not hasattr(config, "workerinput") and config.get_verbosity() >= 0:
            self._reporter = config.pluginmanager.getplugin("terminalreporter")
        self._live = self._reporter is not None and bool(self._reporter.isatty)

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:
        """pytest-timeout's timer around a block, through its public hooks. TimeoutError when it fires."""
        hook = self._config.hook
        from pytest_timeout import Settings

        method = "signal" if hasattr(signal, "SIGALRM") else "thread"
        hook.pytest_timeout_set_timer(item=self.item, settings=Settings(seconds, method, False, True))
        try:
            yield
        except pytest.fail.Exception as fired:
            raise TimeoutError(str(fired)) from None
        finally:
            hook.pytest_timeout_cancel_timer(item=self.item)

    @contextmanager
    def run_began(self, label: str) -> "Iterator[OnProgress]":
        """Show one run: label, stage, bar, loss, tokens per second, time left."""
        if not self._live:
            self.say(f"{label} …")
        with self.status.during(self._experiment, label) as keep, self._maybe_live() as show:

            def on_progress(progress: RunProgress) -> None:
                keep(progress)
                show(f"{label} {progress.stage}", progress.done, details(progress))

            yield on_progress

    def run_ended(self, label: str, result: RunResult) -> None:
        """In a pipe, print a line with the score of the run."""
        if not self._live:
            score = one_line(result.reason) if result.val_bpb is None else f"{result.val_bpb:.4f}"
            self.say(f"{label}: {score}, {result.seconds:.0f} s")

    @contextmanager
    def preparing(self) -> Iterator[Callable[[str, float], None]]:
        """Show the progress of preparing the track's text."""
        stages: list[str] = []
        with self.status.during(self._experiment, "preparing the text") as keep, self._maybe_live() as show:

            def on_progress(stage: str, done: float) -> None:
                if not stages:
                    self.say("preparing the track's text, once")
                stages.append(stage)
                keep(RunProgress(stage, done))
                show(stage, done, [])

            yield on_progress

    def recorded(self, record: Record) -> None:
        """Print a line with the scores of the baseline."""
        scores = " ".join(f"{score:.4f}" for score in record.scores)
        seconds = record.stats.mean("seconds")
        self.say(f"baseline recorded: val_bpb {record.val_bpb:.4f} ({scores}), {seconds:.0f} s a run")

    def say(self, line: str) -> None:
        """Print a line of this plugin's own."""
        if self._reporter:
            with uncaptured(self._config):
                self._reporter.write_line(f"autoresearch: {line}")
                sys.stdout.flush()

    @property
    def _experiment(self) -> str:
        """The experiment that is planned or judged now."""
        return self.item.name if self.item else ""

    def _maybe_live(self) -> AbstractContextManager[Callable[[str, float, Sequence[str]], None]]:
        """A live line in a terminal; elsewhere nothing is shown."""
        return self._live_line() if self._live else nullcontext(lambda what, done, rest: None)

    @contextmanager
    def _live_line(self) -> Iterator[Callable[[str, float, Sequence[str]], None]]:
        """Show a bar in the rest of the current line, and clear it afterwards."""
        writer, width = self._config.get_terminal_writer(), shutil.get_terminal_size().columns
        assert self._reporter
        if width - writer.width_of_current_line < LIVE_WIDTH:
            self._reporter.ensure_newline()
        room = width - writer.width_of_current_line - 1
        with tqdm(
            total=1.0, file=_RestOfLine(self._config), ncols=room, leave=False, mininterval=0.2, bar_format=FORMAT
        ) as bar:

            def show(what: str, done: float, rest: Sequence[str]) -> None:
                bar.set_description_str(what, refresh=False)
                bar.set_postfix_str(fitting(rest, room - len(what) - BAR_WIDTH), refresh=False)
                bar.update(min(done, 1.0) - bar.n)

            yield show


class _RestOfLine(io.TextIOBase):
    """A stream for the rest of the terminal's current line: `\\r` returns to the column where the stream began."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.write(SAVE)

    def write(self, text: str, /) -> int:
        with uncaptured(self._config):
            sys.stdout.write(text.replace("\r", RESTORE + CLEAR))
            sys.stdout.flush()
        return len(text)


def details(progress: RunProgress) -> list[str]:
    """What stands after the bar, the most wanted first: `loss 2.314`, `6 s left`, `21k tokens/s`."""
    return run_details(progress.stage, progress.loss, progress.seconds_left, progress.tokens_per_second)
