"""pytest hooks: options, collection, protocol, reports. Each does one thing, or has the session do it.

Imported in every pytest run of an environment, so it imports nothing heavy and is silent where it finds no experiment.
"""

import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_autoresearch.core.errors import UsageError

if TYPE_CHECKING:
    from pytest_autoresearch.judging.ledger import Verdict
    from pytest_autoresearch.judging.session import Session
    from pytest_autoresearch.plugin.terminal import Terminal

# -- options --


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of section "autoresearch" and the three ini settings."""
    group = parser.getgroup("autoresearch", "experiments as tests")
    group.addoption(
        "--ar-track", metavar="NAME", help="track to judge on (default: cuda where there is a GPU, else cpu)"
    )
    group.addoption(
        "--ar-budget", metavar="AMOUNT", help='other training budget, such as "60 s" or "200 steps"; promotes nothing'
    )
    group.addoption(
        "--ar-seeds", metavar="N", type=int, help="other number of seeds; fewer than the track's promote nothing"
    )
    group.addoption("--ar-record", action="store_true", help="record the baseline anew")
    group.addoption("--ar-no-promote", action="store_true", help="leave the baseline as it is, whatever passes")
    group.addoption("--ar-rerun", action="store_true", help="train again what has a recorded verdict")
    group.addoption(
        "--ar-retest", action="store_true", help="judge anew what was judged against an earlier baseline only"
    )
    group.addoption(
        "--ar-sandbox",
        choices=["auto", "bwrap", "off"],
        default="auto",
        help="run candidates in bubblewrap: where it works (default), or else fail, or never",
    )
    parser.addini("autoresearch_experiments", "folder of the experiments (default: experiments)", default="experiments")
    parser.addini("autoresearch_baseline", "folder of the tracks (default: baseline)", default="baseline")
    parser.addini("autoresearch_track", "track to judge on where --ar-track is not given", default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks that other plugins may implement."""
    from pytest_autoresearch.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


SESSION = pytest.StashKey["Session"]()


def session_of(config: pytest.Config) -> "Session":
    """The one session object, made when it is first needed."""
    if SESSION not in config.stash:
        from pytest_autoresearch.judging.project import Options, Project
        from pytest_autoresearch.judging.session import Session

        get = config.getoption
        config.stash[SESSION] = Session(
            Project(
                config.rootpath, experiments_folder(config), config.rootpath / config.getini("autoresearch_baseline")
            ),
            Options(
                track=get("--ar-track") or config.getini("autoresearch_track") or None,
                budget=get("--ar-budget"),
                seeds=get("--ar-seeds"),
                record=get("--ar-record"),
                promote=not get("--ar-no-promote"),
                rerun=get("--ar-rerun"),
                retest=get("--ar-retest"),
                sandbox=get("--ar-sandbox"),
            ),
        )
    return config.stash[SESSION]


def experiments_folder(config: pytest.Config) -> Path:
    return config.rootpath / str(config.getini("autoresearch_experiments"))


# -- collection --


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Claim the experiments: pytest's own collector would import one that is named on the command line."""
    collectors = yield
    if is_experiment(file_path, parent.config):
        return [ExperimentFile.from_parent(parent, path=file_path)]
    return collectors


def is_experiment(path: Path, config: pytest.Config) -> bool:
    """Whether a file is ours. In a project without tracks only an overlay is: there `experiments` may mean anything."""
    if path.suffix != ".py" or path.name == "conftest.py" or path.name[0] == "_":
        return False
    if experiments_folder(config) not in path.parents:
        return False
    if (config.rootpath / str(config.getini("autoresearch_baseline"))).is_dir():
        return True
    with suppress(OSError):
        return b"from baseline import *" in path.read_bytes()
    return False


class ExperimentFile(pytest.File):
    """A file under `experiments/`; its one item is the experiment."""

    def collect(self) -> Iterator["ExperimentItem"]:
        name = self.path.relative_to(experiments_folder(self.config)).with_suffix("").as_posix()
        yield ExperimentItem.from_parent(self, name=name)


class ExperimentItem(pytest.Item):
    """One experiment as a test. It passes when it beats the baseline by more than noise."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.config.pluginmanager.has_plugin("timeout"):
            self.add_marker(pytest.mark.timeout(0))  # each run has a timer of its own; there is none around them all
        self.verdict: Verdict | None = None
        self.problem: UsageError | None = None
        self.not_judged: str | None = None
        self.warnings: list[str] = []

    def setup(self) -> None:
        """Fail where nothing can be judged: no baseline, a bad track, no data."""
        if self.problem:
            pytest.fail(str(self.problem), pytrace=False)

    def runtest(self) -> None:
        """Judge, and translate the verdict into pytest's words."""
        from pytest_autoresearch.core.records import Outcome
        from pytest_autoresearch.judging.session import NotJudged
        from pytest_autoresearch.plugin.terminal import failure_message

        try:
            with uncaptured(self.config):
                self.verdict = self._judge(session_of(self.config))
        except NotJudged as reason:
            self.not_judged = ("UNCHANGED: " if reason.unchanged else "SKIPPED: ") + str(reason)
            pytest.skip(str(reason))
        except UsageError as error:
            pytest.fail(str(error), pytrace=False)
        except OSError as error:
            pytest.fail(f"{error.filename or self.path}: {error.strerror or error}", pytrace=False)
        verdict = self.verdict
        numbers = {"val_bpb": verdict.val_bpb, "delta": verdict.delta}
        self.user_properties.append(("verdict", str(verdict.outcome)))
        self.user_properties += [(name, number) for name, number in numbers.items() if number is not None]
        for warning in self.warnings:
            self.warn(pytest.PytestWarning(warning))
        if verdict.outcome is not Outcome.KEPT:
            pytest.fail(failure_message(verdict), pytrace=False)

    def _judge(self, session: "Session") -> "Verdict":
        try:
            experiment = session.read(self.path)
        except UsageError as error:
            return session.broken(self.path, error)
        self.warnings = session.warnings(experiment)
        return session.judge(experiment, lambda seconds: watchdog(self, seconds), terminal_of(self.config))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, 0, self.name


# -- protocol --


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Before the first experiment that has to train: fetch and prepare the data, and record the baseline."""
    if not isinstance(item, ExperimentItem):
        return
    if hasattr(item.config, "workerinput"):
        from pytest_autoresearch.referee.process import die_with_parent

        die_with_parent()
    if item.config.getoption("setupplan", False) or item.config.getoption("setuponly", False):
        return
    session = session_of(item.config)
    terminal = terminal_of(item.config)
    try:
        session.fetch_corpus(terminal)
        if session.has_to_train(item.path):
            session.make_ready(lambda seconds: watchdog(item, seconds), terminal)
    except UsageError as error:
        item.problem = error


@contextmanager
def watchdog(item: pytest.Item, seconds: float) -> Iterator[None]:
    """pytest-timeout's timer around a block, through its public hooks; TimeoutError when it has fired."""
    hook = item.config.hook
    if not item.config.pluginmanager.has_plugin("timeout"):
        raise UsageError("pytest-timeout is the watchdog of every run and is disabled here (-p no:timeout)")
    from pytest_timeout import Settings

    method = "signal" if hasattr(signal, "SIGALRM") else "thread"
    hook.pytest_timeout_set_timer(item=item, settings=Settings(seconds, method, False, True))
    try:
        yield
    except pytest.fail.Exception as fired:
        raise TimeoutError(str(fired)) from None
    finally:
        hook.pytest_timeout_cancel_timer(item=item)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """A block in which standard output is the real one."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


def terminal_of(config: pytest.Config) -> "Terminal":
    """Where this process may show how runs go; a worker of xdist shows nothing."""
    from pytest_autoresearch.plugin.terminal import Terminal

    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return Terminal(lambda line: None, nullcontext, lambda: 0, lambda: None, live=False)
    writer = config.get_terminal_writer()
    say: Callable[[str], None] = (lambda line: None) if config.get_verbosity() < 0 else reporter.write_line
    live = sys.stdout.isatty() and writer.hasmarkup and config.get_verbosity() >= 0
    return Terminal(
        say, lambda: uncaptured(config), lambda: writer.width_of_current_line, reporter.ensure_newline, live
    )


# -- reports --


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """What the experiments are judged by; nothing where there are none."""
    if config.get_verbosity() < 0 or not any(isinstance(item, ExperimentItem) for item in items):
        return []
    from pytest_autoresearch.plugin.terminal import header

    return header(session_of(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the verdict along with the report: under xdist it is another process that logs and promotes."""
    report = yield
    if isinstance(item, ExperimentItem) and call.when == "call":
        report.autoresearch = item.verdict and item.verdict.as_dict()  # type: ignore[attr-defined]
        report.autoresearch_skipped = item.not_judged  # type: ignore[attr-defined]
    return report


def verdict_in(report: pytest.TestReport) -> "Verdict | None":
    """The verdict that a report carries."""
    fields = getattr(report, "autoresearch", None)
    if not fields:
        return None
    from pytest_autoresearch.judging.ledger import Verdict

    return Verdict.from_dict(fields)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, Any] | None:
    """The verdict and its numbers, on the one line that pytest prints for each experiment; a letter with -q."""
    if verdict := verdict_in(report):
        from pytest_autoresearch.plugin.terminal import LETTERS

        category, letter, line = report.outcome, LETTERS[verdict.outcome], verdict.line
        if SESSION in config.stash and session_of(config).finished:
            return category, letter, str(verdict.outcome).upper()  # pytest's own short summary has the rest
    elif skipped := getattr(report, "autoresearch_skipped", None):
        category, letter, line = "skipped", "s", str(skipped)
    else:
        return None
    writer = config.get_terminal_writer()
    room = max(40, writer.fullwidth - writer.width_of_current_line - len(" [100%]") - 2)
    line = line if len(line) <= room or config.get_verbosity() > 0 else line[: room - 1] + "…"
    if hasattr(report, "node"):  # xdist names no files as it goes
        line_break = "\n" if writer.width_of_current_line else ""
        return category, letter if config.get_verbosity() < 0 else f"{line_break}{report.nodeid} {line}", line
    return category, letter if config.get_verbosity() < 0 else line, line


class Controller:
    """The hooks of the process that sees every report: it logs, promotes and prints; never an xdist worker."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take each verdict into the ledger."""
        if verdict := verdict_in(report):
            session_of(self.config).take(verdict)
            self.config.hook.pytest_autoresearch_verdict(config=self.config, verdict=verdict)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Promote the best of what was kept; after an interrupt that waits for the next session."""
        if SESSION not in self.config.stash:
            return
        session = session_of(self.config)
        session.finish(promote=exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
        if session.promotion:
            self.config.hook.pytest_autoresearch_promoted(config=self.config, promotion=session.promotion)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table of verdicts, and what was promoted."""
        if SESSION not in self.config.stash or not session_of(self.config).verdicts:
            return
        from pytest_autoresearch.plugin.terminal import summary

        terminalreporter.section("autoresearch")
        for line in summary(session_of(self.config)):
            terminalreporter.write_line(line)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Register the controller's hooks, but for a worker of xdist."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Controller(config), "autoresearch-controller")
