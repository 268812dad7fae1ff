"""The evidence of a run, written only by the referee: `program.py`, `log.txt`, the files that the program saved."""

from pathlib import Path

from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.protocol import Saved, SaveQuota

LOG_BYTES = 1 << 20
"""Bytes that are kept of the beginning, and at least of the end, of a candidate's output."""


class RunLog:
    """`log.txt`: the beginning of a candidate's output is written at once, the end when the run is over."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._tail = b""
        self._dropped = 0
        self._muted = False

    def mute(self) -> None:
        """Drop all that is written from now on."""
        self._muted = True

    def write(self, data: bytes) -> None:
        if self._muted:
            return
        head = data[: max(0, LOG_BYTES - self._written)]
        self._file.write(head)
        self._written += len(head)
        self._tail += data[len(head) :]
        if len(self._tail) > 2 * LOG_BYTES:
            self._dropped += len(self._tail) - LOG_BYTES
            self._tail = self._tail[-LOG_BYTES:]

    def note(self, words: str) -> None:
        """Write a line of the referee's own."""
        self.write(f"[{words}]\n".encode())

    def last_lines(self, count: int = 5) -> str:
        """The last lines of the output, for a process that ended without a message."""
        text = self._tail or Path(self._file.name).read_bytes()[-4096:]
        return "\n".join(text.decode(errors="replace").splitlines()[-count:])

    def close(self) -> None:
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes not kept ...]\n".encode())
        self._file.write(self._tail)
        self._file.close()


class SavedFiles:
    """The files that a program saves. They stay in memory until the run has ended; then `write` puts them on disk."""

    def __init__(self) -> None:
        self._quota = SaveQuota()
        self._files: dict[str, bytearray] = {}

    def add(self, part: Saved) -> None:
        """Add a part of a file. ValueError if the name, the size or the order of parts is not allowed."""
        self._quota.charge(part.name, len(part.data), part.first)
        if part.first:
            self._files[part.name] = bytearray()
        elif part.name not in self._files:
            raise ValueError(f"{part.name!r} has no beginning")
        self._files[part.name] += part.data

    def write(self, folder: Path) -> None:
        """Write all files into a new folder, if there are any. OSError."""
        remove_tree(folder)  # without a sandbox the program may have put a link there
        if self._files:
            folder.mkdir()
        for name, data in self._files.items():
            with (folder / name).open("xb") as file:
                file.write(data)


def empty_folder(folder: Path, source: str) -> None:
    """Make a run's folder, or empty it, and write its program there. OSError."""
    remove_tree(folder)
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(source, encoding="utf-8")
