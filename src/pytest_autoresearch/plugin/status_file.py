"""The file of `--ar-status`: what the session does now, as one JSON object, for a program that watches it."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.loop.status import RunStatus
from pytest_autoresearch.referee.executor import RunProgress

EVERY = 0.3
"""The least seconds between two writes, unless the stage changes."""


class StatusFile:
    """Keeps the fields of a RunStatus in a file, which is replaced in one step. Without a path it does nothing.

    With pytest-xdist each worker writes, so the file says what one of them does. What cannot be written is left out.
    """

    def __init__(self, path: str | None) -> None:
        self._path = Path(path).absolute() if path else None
        self._shown = RunStatus("")
        self._written = -math.inf

    def begin(self) -> None:
        """Say that nothing goes on yet. UsageError if the file cannot be written."""
        try:
            self._write(RunStatus(""))
        except OSError as error:
            raise UsageError(f"--ar-status {self._path}: cannot be written: {error.strerror}") from None

    @contextmanager
    def during(self, experiment: str, label: str) -> Iterator[Callable[[RunProgress], None]]:
        """A block in which a run is done, or something like it. Yields the function that receives its progress.

        The stage is "" until the first progress: until then a run may wait for the device.
        """

        def show(progress: RunProgress) -> None:
            loss, left = (None if math.isnan(each) else each for each in (progress.loss, progress.seconds_left))
            self._show(RunStatus(experiment, label, progress.stage, progress.done, loss, left))

        self._show(RunStatus(experiment, label))
        try:
            yield show
        finally:
            self._show(RunStatus(experiment))

    def _show(self, status: RunStatus) -> None:
        is_new = (status.label, status.stage) != (self._shown.label, self._shown.stage)
        if is_new or time.monotonic() - self._written >= EVERY:
            with suppress(OSError):
                self._write(status)

    def _write(self, status: RunStatus) -> None:
        """Replace the file. A kill may leave the new content beside it, under a name that the next write uses."""
        if not self._path:
            return
        temporary = self._path.with_name(f".{self._path.name}{os.environ.get('PYTEST_XDIST_WORKER', '')}.tmp")
        temporary.write_text(json.dumps(asdict(status)) + "\n", encoding="utf-8")
        os.replace(temporary, self._path)
        self._shown, self._written = status, time.monotonic()
