"""pytest's hooks. Each does one thing, or delegates to the session.

Every pytest run imports this module, so it imports nothing heavy. Without experiments it prints nothing.
"""

import os
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_autoresearch.core.errors import LeftUnjudged, UsageError
from pytest_autoresearch.core.text import cut, escaped
from pytest_autoresearch.plugin.items import ExperimentFile, ExperimentItem, is_experiment, is_sweep, sweep_of
from pytest_autoresearch.plugin.session import SESSION, SHARED, session_of
from pytest_autoresearch.plugin.settings import pytest_addoption as pytest_addoption

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_autoresearch.core.records import Verdict

# -- registration --


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks that other plugins may implement."""
    from pytest_autoresearch.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks of the process that sees every report. xdist's workers do not."""
    end_with_loop()
    worker = getattr(config, "workerinput", {})
    config.stash[SHARED] = worker.get("autoresearch", (time.time(), ""))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Controller(config), "autoresearch-controller")


def end_with_loop() -> None:
    """Have this process end with the loop that has started it, if one has (Linux)."""
    if loop := os.environ.pop("AUTORESEARCH_LOOP", ""):  # for this process, and none that it starts
        from pytest_autoresearch.core.processes import die_with_parent

        die_with_parent()
        if loop != str(os.getppid()):
            pytest.exit("the loop that started this process has ended", pytest.ExitCode.INTERRUPTED)


# -- collection --


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: "Path", parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect experiments ourselves: pytest's own collector would import a file that the command line names."""
    collectors = yield
    if is_experiment(file_path, parent.config):
        return [ExperimentFile.of(parent, file_path)]
    return collectors


@pytest.hookimpl(wrapper=True)
def pytest_collect_directory(path: "Path") -> Generator[None, pytest.Collector | None, pytest.Collector | None]:
    """Show a folder by a name that prints."""
    folder = yield
    if folder:
        folder.name = escaped(folder.name)
    return folder


def check(config: pytest.Config) -> None:
    """Raise pytest's own UsageError if nothing can be judged."""
    try:
        if os.environ.get("AUTORESEARCH_ROUND") and not only_shown(config):
            raise UsageError("in a round of autoresearch loop: write the file and exit; the loop judges it")
        if not (only_shown(config) or config.pluginmanager.has_plugin("timeout")):
            raise UsageError("pytest-timeout is the watchdog of every run and is disabled here (-p no:timeout)")
        session = session_of(config)
        session.check(writes=not only_shown(config))
        if not only_shown(config):
            session.monitor.status.begin()  # type: ignore[attr-defined]
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def header(config: pytest.Config, paths: "Iterable[Path]") -> list[str]:
    """The lines above the first experiment, with one for each sweep among the files; none with -q."""
    if config.get_verbosity() < 0:
        return []
    from pytest_autoresearch.plugin.words import header_lines

    runs = not only_shown(config)
    sweeps = [sweep_of(config, path).progress(looks=runs) for path in dict.fromkeys(paths) if is_sweep(path)]
    lines = [f"autoresearch: {escaped(line)}" for line in sweeps if line]
    return [*header_lines(session_of(config).header(), runs), *lines]


def only_shown(config: pytest.Config) -> bool:
    """Whether pytest shows what there is and runs nothing."""
    return any(config.getoption(name, False) for name in ("collectonly", "setupplan", "setuponly"))


# -- protocol --


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Plan an experiment before pytest begins its line: planning may record the baseline, which prints lines."""
    if not isinstance(item, ExperimentItem):
        return
    if hasattr(item.config, "workerinput"):
        from pytest_autoresearch.core.processes import die_with_parent

        die_with_parent()
    if only_shown(item.config):
        return
    session_of(item.config).monitor.item = item  # type: ignore[attr-defined]  # its timer watches the next runs
    item.plan()


# -- reports --


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the verdict to the report: under xdist, another process logs and promotes."""
    report = yield
    if isinstance(item, ExperimentItem) and call.when == "call":
        report.autoresearch = item.verdict and item.verdict.as_dict()  # type: ignore[attr-defined]
        report.autoresearch_name = item.name  # type: ignore[attr-defined]
        report.autoresearch_point = item.point  # type: ignore[attr-defined]
        report.autoresearch_skipped = item.skip_line  # type: ignore[attr-defined]
        if isinstance(item.planned, LeftUnjudged):
            report.autoresearch_stopped = item.planned.stopped  # type: ignore[attr-defined]
        if item.skip_line:  # otherwise -rs would name this plugin's file, in one line for all skipped experiments
            report.longrepr = (item.nodeid.partition("::")[0], None, str(item.planned))  # type: ignore[assignment]
        elif report.skipped and item.verdict:
            from pytest_autoresearch.judging.words import verdict_line

            report.longrepr = (item.nodeid.partition("::")[0], None, verdict_line(item.verdict))  # type: ignore[assignment]
        if item.verdict and (crash := getattr(report.longrepr, "reprcrash", None)):
            from pytest_autoresearch.plugin.words import short_line

            crash.message = short_line(item.verdict)  # for the short summary, whose lines have little room
    return report


def verdict_in(report: pytest.TestReport) -> "Verdict | None":
    """The verdict in a report, if it has one."""
    fields = getattr(report, "autoresearch", None)
    if not fields:
        return None
    from pytest_autoresearch.core.records import Verdict

    return Verdict.from_dict(fields)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, Any] | None:
    """The verdict and its numbers, for the line that pytest prints about each experiment; a letter with -q."""
    from_controller = config.pluginmanager.getplugin("autoresearch-controller")
    finished = from_controller is not None and from_controller.finished
    if verdict := verdict_in(report):
        from pytest_autoresearch.judging.words import verdict_line
        from pytest_autoresearch.plugin.words import LETTERS

        category, letter, line = report.outcome, LETTERS[verdict.outcome], verdict_line(verdict)
        if report.skipped and (finished or config.get_verbosity() > 0):
            return category, letter, "SKIPPED"  # pytest itself adds the line, and sums up all that it skips
        if finished:
            return category, letter, str(verdict.outcome).upper()  # pytest's own short summary has the rest
    elif skipped := getattr(report, "autoresearch_skipped", None):
        category, letter, line = "skipped", "s", str(skipped)
        if finished or config.get_verbosity() > 0:  # pytest itself adds the reason
            return category, letter, "SKIPPED" if finished else line.partition(":")[0]
    else:
        return None
    if config.get_verbosity() < 0:
        return category, letter, line
    return category, on_one_line(report, config, line), line


def on_one_line(report: pytest.TestReport, config: pytest.Config, line: str) -> str:
    """A verdict's line, cut to the terminal's width, after the file's name if pytest has not printed that."""
    writer = config.get_terminal_writer()
    column = writer.width_of_current_line
    head = ""
    if hasattr(report, "node"):  # xdist prints no file names
        head, column = "\n" * bool(column) + f"{report.nodeid} ", 0
    elif config.get_verbosity() == 0:
        path, point = report.nodeid.partition("::")[0], getattr(report, "autoresearch_point", "")
        line = f"{point} {line}" if point else line
        if column > len(path) + 1:  # another trial of this sweep has a verdict there
            head, column = "\n", 0
        if not column:  # lines about its runs follow the name that pytest printed
            head += f"{path} "
            if reporter := config.pluginmanager.getplugin("terminalreporter"):
                reporter.currentfspath = config.rootpath / path  # else pytest leaves out the percentage of this line
    room = max(20, writer.fullwidth - column - len(head) - len(" [100%]") - 2)
    return head + (line if config.get_verbosity() > 0 else cut(line, room))


class Controller:
    """The hooks of the process that sees every report. They log, promote and print."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.finished = False
        self._interrupted = False
        self._header_shown = False

    @pytest.hookimpl(tryfirst=True)  # before pytest prints the header
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """End the session with one error if nothing can be judged."""
        if any(isinstance(item, ExperimentItem) for item in session.items):
            check(self.config)

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """The header, if there are experiments."""
        paths = [item.path for item in items if isinstance(item, ExperimentItem)]
        return header(self.config, paths) if paths else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist when the session began, and the name of the test run."""
        self.config.stash[SHARED] = self.config.stash[SHARED][0], node.workerinput["testrunuid"]
        node.workerinput["autoresearch"] = self.config.stash[SHARED]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Check and show the header under xdist, where pytest does not call `pytest_report_collectionfinish`."""
        files = dict.fromkeys(self.config.rootpath / name.partition("::")[0] for name in ids)
        paths = [path for path in files if is_experiment(path, self.config)]
        if self._header_shown or not paths:
            return
        self._header_shown = True
        check(self.config)
        if reporter := self.config.pluginmanager.getplugin("terminalreporter"):
            if self.config.get_terminal_writer().width_of_current_line:  # in a terminal, xdist counts its workers there
                reporter.line("")
            for line in header(self.config, paths):
                reporter.write_line(line)

    def _has_session(self, exitstatus: int) -> bool:
        """Whether there was something to judge, and no error prevented it."""
        failed = exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
        return SESSION in self.config.stash and not failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Log each verdict."""
        if verdict := verdict_in(report):
            session_of(self.config).log.add(report.autoresearch_name, verdict)
            self.config.hook.pytest_autoresearch_verdict(config=self.config, verdict=verdict)
        elif stopped := getattr(report, "autoresearch_stopped", ""):
            session_of(self.config).log.leave(report.autoresearch_name, stopped)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Promote the best kept experiment. After an interrupt, the next session promotes it."""
        self.finished = True
        if SESSION in self.config.stash:
            session_of(self.config).stopping.close()
        if not self._has_session(exitstatus):
            return
        self._interrupted = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        log = session_of(self.config).log
        log.finish(promote=not self._interrupted)
        if promotion := log.summary().promotion:
            self.config.hook.pytest_autoresearch_promoted(config=self.config, promotion=promotion)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """The table of verdicts, and what was promoted."""
        if not self._has_session(exitstatus):
            return
        from pytest_autoresearch.plugin.words import summary_lines

        if lines := summary_lines(session_of(self.config).log.summary(self._interrupted)):
            terminalreporter.ensure_newline()
            terminalreporter.section("autoresearch")
            for line in lines:
                terminalreporter.write_line(line)
