"""What a loop sees of its project from outside: the baseline, its score, and what waits; anew where files change."""

from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.opening import baseline_val_bpb
from pytest_autoresearch.loop.queue import Queue, Waiting


class Watch:
    """The context and the baseline's val_bpb of the moment, and the queue, which follows the baseline by itself."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.queue = Queue(context)
        self.record: float | None = None
        self._seen: list[tuple[int, ...]] = []

    def look(self) -> str:
        """Look everything up anew if the track's files have changed. Returns why that is not possible, or ""."""
        context = self.context
        paths = (context.baseline.path, context.baseline.record_path, context.track.folder / "track.toml")
        seen = [_signature(path) for path in paths]
        if seen == self._seen:
            return ""
        self._seen = seen
        fresh = context.fresh()
        try:
            fresh.track, fresh.baseline_program  # noqa: B018  raise if they cannot be read
        except (UsageError, OSError) as error:
            return context.shorten(error)
        self.context, self.record = fresh, baseline_val_bpb(fresh)
        return ""

    def look_for_record(self) -> None:
        """Look for the baseline's score, if it is not known yet: pytest may have fetched the corpus meanwhile."""
        if self.record is None:
            self.record = baseline_val_bpb(self.context)

    def waiting(self) -> tuple[list[Waiting], str]:
        """What waits, and why that cannot be told, or ""."""
        try:
            return self.queue.waiting(), ""
        except (UsageError, OSError) as error:
            return [], f"the queue: {self.context.shorten(error)}"


def _signature(path: Path) -> tuple[int, ...]:
    """Tells a file from what it was before; empty if there is none."""
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_mtime_ns, about.st_size, about.st_ino
