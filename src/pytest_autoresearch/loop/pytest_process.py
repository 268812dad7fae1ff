"""One pytest process that judges one experiment; what it does now is read from a file that it keeps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.processes import end, signal_name, tree
from pytest_autoresearch.core.records import Verdict, check_types
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.evidence import file_name
from pytest_autoresearch.loop.pytest_options import USAGE_ERROR
from pytest_autoresearch.loop.queue import Waiting
from pytest_autoresearch.loop.standing import standing_of
from pytest_autoresearch.loop.status import RunStatus

LOOP, ROUND = "AUTORESEARCH_LOOP", "AUTORESEARCH_ROUND"
"""The process that pytest is to end with; and the mark of an agent's processes, in which pytest judges nothing."""
COMPLETE = (0, 1)
"""The exit codes of a session that came to its end."""
TAIL = 100_000
"""How much of a log's end is read, in bytes."""
PATIENCE = 5.0
"""Seconds in which the watchers of runs end them after pytest has been killed."""
FULL = 1 << 16
"""With fewer bytes left, a disk is full."""
PROBLEMS = (
    USAGE_ERROR,
    re.compile(rb"^ERROR: (.+)", re.MULTILINE),
    re.compile(rb"^INTERNALERROR> (\S*(?:Error|Exception)\b.*)", re.MULTILINE),
    re.compile(rb"^_+ .+ _+\n(.+)", re.MULTILINE),  # below the head of a failure
    re.compile(rb"^\S+ ((?:SKIPPED|UNCHANGED): .+?)(?: +\[100%\])?$", re.MULTILINE),
)
"""How pytest says why nothing was judged, the plainest first."""


class PytestProcess:
    """A pytest process in a session of its own, so that a terminal's Ctrl-C does not reach it.

    On Linux it ends when the loop ends, whatever ends the loop; so it must be started from the main thread. Elsewhere
    it judges its experiment to the end if the loop is killed. Its output goes to `results/<track>/judging/<name>.log`.
    """

    def __init__(self, context: Context, waiting: Waiting, options: Sequence[str]) -> None:
        """Start pytest on the experiment, which is claimed, with these options. UsageError if it cannot be started."""
        self._context = context.fresh()  # the baseline that it meets
        self._waiting = waiting
        self._shown = RunStatus(waiting.name)
        folder = context.evidence.folder / context.track.name / "judging"
        name = file_name(waiting.name)
        self.log, self._status_path = folder / f"{name}.log", folder / f"{name}.json"
        self._replayed = standing_of(self._context, waiting.path).verdict
        self._before = {each.finished_at for each in context.evidence.verdicts(context.track.name, waiting.name)}
        file = _argument(waiting.path, context.project.root)
        command = [sys.executable, "-m", "pytest", file, "--ar-status", str(self._status_path)]
        command += ["--ar-track", context.track.folder.name, *options]
        variables = {name: value for name, value in os.environ.items() if name != ROUND}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._status_path.unlink(missing_ok=True)
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=context.project.root,
                    env={**variables, LOOP: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise UsageError(context.shorten(error)) from None

    @property
    def status(self) -> RunStatus:
        """What it does now."""
        if self._process.returncode is not None:
            return RunStatus(self._waiting.name)
        with suppress(OSError, ValueError, TypeError):  # not there yet, or broken by people
            found = json.loads(self._status_path.read_text(encoding="utf-8"))
            self._shown = replace(check_types(RunStatus(**found)), experiment=self._waiting.name)
        return self._shown

    def poll(self) -> bool:
        """Whether it has ended."""
        if self._process.poll() is None:
            return False
        self._status_path.unlink(missing_ok=True)
        return True

    def verdict(self) -> Verdict | None:
        """The verdict that it reached, with its status in the ledger; None if it ended without one."""
        evidence, track, name = self._context.evidence, self._context.track.name, self._waiting.name
        own = [verdict for verdict in evidence.verdicts(track, name) if verdict.finished_at not in self._before]
        if own:
            return own[-1]
        if self._process.returncode not in COMPLETE:
            return None
        known = self._replayed or standing_of(self._context.fresh(), self._waiting.path).verdict
        if known is None:
            return None
        latest = evidence.find(track, known.key)  # with the status that its line has now
        same = [verdict for verdict in latest if verdict.evidence == known.evidence]
        return replace(same[0] if same else known, replayed=True, same_as=known.same_as)

    def problem(self) -> str:
        """Why there is no verdict, in one line."""
        output = self._end_of_log()
        code = self._process.returncode
        if code is not None and code < 0:
            return f"pytest was ended by {signal_name(-code)}; its output is in {self._context.relative(self.log)}"
        for pattern in PROBLEMS:
            if found := pattern.search(output):
                return one_line(found[1].decode(errors="replace"))
        lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
        if lines:
            return one_line(lines[-1])
        full = ", and the disk is full" * (shutil.disk_usage(self.log.parent).free < FULL)
        return f"pytest said nothing and ended with exit code {code}{full}"

    def kill(self) -> None:
        """End it and its runs. What it judged stays judged."""
        members = tree(self._process.pid)
        if self._process.poll() is None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        end(members, PATIENCE)
        self.poll()

    def _end_of_log(self) -> bytes:
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL))
            return log.read()
        return b""


def _argument(path: Path, root: Path) -> str:
    """A file in words for pytest, which is started in `root`: it takes no `[`, and the root's path may have one."""
    return f".{os.sep}{path.relative_to(root)}" if path.is_relative_to(root) else str(path)
