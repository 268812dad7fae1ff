"""What a run leaves on disk, written by the referee alone: `program.py`, `log.txt`, the files that it saved."""

from pathlib import Path

from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.protocol import Saved, SaveQuota

LOG_BYTES = 1 << 20
"""Of what a candidate prints, so many bytes of the beginning and of the end are kept."""


class RunLog:
    """`log.txt`: the beginning of what a candidate prints as it comes, and the end once the run is over."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._tail = b""
        self._dropped = 0

    def write(self, data: bytes) -> None:
        head = data[: max(0, LOG_BYTES - self._written)]
        self._file.write(head)
        self._written += len(head)
        self._tail += data[len(head) :]
        if len(self._tail) > 2 * LOG_BYTES:
            self._dropped += len(self._tail) - LOG_BYTES
            self._tail = self._tail[-LOG_BYTES:]

    def last_lines(self, count: int = 5) -> str:
        """The last lines printed, for a process that ended without a message."""
        text = self._tail or Path(self._file.name).read_bytes()[-4096:]
        return "\n".join(text.decode(errors="replace").splitlines()[-count:])

    def close(self) -> None:
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes not kept ...]\n".encode())
        self._file.write(self._tail)
        self._file.close()


class SavedFiles:
    """The files that a program hands over: in memory while it runs, in the folder `saved` once it has ended."""

    def __init__(self) -> None:
        self._quota = SaveQuota()
        self._files: dict[str, bytearray] = {}

    def add(self, part: Saved) -> None:
        """Take a part of a file. ValueError where the name, the size or the order of parts is not allowed."""
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
    """Make a run's folder, empty of what an earlier run left, with its program in it. OSError."""
    remove_tree(folder)
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(source, encoding="utf-8")
