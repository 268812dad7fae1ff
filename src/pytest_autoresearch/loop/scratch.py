"""The working folder of an agent: copies of what it needs, outside of the project. What comes back is read as text."""

import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import remove_tree
from pytest_autoresearch.core.text import escaped, is_searched, one_line, read_source
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.programs.compare import sha256
from pytest_autoresearch.programs.experiment import SOURCE_BYTES

FILES = 20
"""At most so many files are read after a session."""
ENTRIES, DEPTH, LENGTH = 10_000, 4, 100
"""At most so many entries of folders are looked at, so many folders deep, and so long may a file's name be."""
PLAIN = re.compile("[A-Za-z][A-Za-z0-9_]*", re.ASCII)
COPIED = ("program.md", "AGENTS.md", "ideas.md", "results.tsv")
BYTES, COPIED_BYTES = 1_000_000, 16_000_000
"""The largest other file of an agent that is read, and the largest page that is copied for it."""


@dataclass(frozen=True)
class Brought:
    """A new or changed file of a scratch folder: its path below `experiments/`, and its text.

    `problem` says in one line why it cannot come back (too large, a link, not UTF-8, no plain name), or is "".
    """

    name: str
    text: str
    problem: str = ""


@dataclass(frozen=True)
class Scratch:
    """A scratch folder. `before` holds a digest of each file below `experiments/` as it was copied, or came back."""

    folder: Path
    before: dict[str, str]

    @staticmethod
    def new_path() -> Path:
        """Where a scratch folder can be made."""
        return Path(tempfile.gettempdir()).resolve() / f"autoresearch-round-{uuid.uuid4().hex}"

    @staticmethod
    def is_path(path: Path) -> bool:
        """Whether `new_path` may have made a path."""
        return path.is_absolute() and bool(re.fullmatch("autoresearch-round-[0-9a-f]{32}", path.name))

    @classmethod
    def make(cls, context: Context, files: Mapping[str, str], folder: Path | None = None) -> "Scratch":
        """A new folder with copies of the track, the experiments, `program.md`, `AGENTS.md`, `ideas.md` and the ledger,
        and with these other files."""
        folder = folder or cls.new_path()
        folder.mkdir(mode=0o700)
        root, track = context.project.root, context.base_track
        given = {
            "pytest.ini": f"[pytest]\nautoresearch_track = {track.name}\n",
            f"baseline/{track.name}/track.toml": (track.folder / "track.toml").read_text(encoding="utf-8"),
            f"baseline/{track.name}/train.py": context.baseline.source(),
        }
        for name in COPIED:
            with suppress(UsageError):
                given[name] = read_source(root / name, COPIED_BYTES)
        given.update(files)
        before = {}
        for name, path in _find(context.project.experiments):
            with suppress(UsageError):
                text = read_source(path, SOURCE_BYTES)
                given[f"experiments/{name}"], before[name] = text, sha256(text)
        (folder / "experiments").mkdir()
        for name, text in given.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="")
        return cls(folder, before)

    @property
    def experiments(self) -> Path:
        """The folder of the experiments."""
        return self.folder / "experiments"

    def brought(self) -> list[Brought]:
        """The new and changed `experiments/**.py`, in the order of their times. Nothing else is looked at."""
        found: list[Brought] = []
        for name, path in sorted(self._files(), key=lambda each: (_time(each[1]), each[0])):
            try:
                text, problem = read_source(path, SOURCE_BYTES, links=False), _problem_of(name.removesuffix(".py"))
                if sha256(text) == self.before.get(name):
                    continue
            except UsageError as error:
                text, problem = "", one_line(str(error).replace(f"{path}: ", "").replace(str(path), name))
            if len(found) == FILES:
                return [*found, Brought(escaped(name), "", f"at most {FILES} files come back")]
            found.append(Brought(escaped(name), text, problem))
        return found

    def new_names(self) -> list[str]:
        """The names of experiments that were not copied. Nothing is read."""
        names = {name: name.removesuffix(".py") for name, _ in self._files()}
        return sorted(plain for name, plain in names.items() if name not in self.before and not _problem_of(plain))

    def read(self, name: str) -> str:
        """Another file in the folder, whatever the agent has made of it; "" if it is no file with text."""
        with suppress(UsageError):
            return "" if self.folder.is_symlink() else read_source(self.folder / name, BYTES, links=False)
        return ""

    def _files(self) -> Iterator[tuple[str, Path]]:
        """The experiments as they are now; none where an agent has put a link in place of the folder."""
        return iter(()) if self.folder.is_symlink() else _find(self.experiments)

    def remove(self) -> None:
        """Remove the folder, whatever the agent has put into it."""
        remove_tree(self.folder)


def _find(root: Path) -> Iterator[tuple[str, Path]]:
    """The files `**.py` with their paths below `root`. Links to folders are not followed.

    Hidden folders, and those that begin with `_`, are left out.
    """
    folders = [] if root.is_symlink() else [("", root)]
    left = ENTRIES
    for above, folder in folders:  # it grows meanwhile
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in islice(entries, left):
                left -= 1
                if entry.is_dir(follow_symlinks=False):
                    if entry.name[0] not in "._" and above.count("/") < DEPTH:
                        folders.append((f"{above}{entry.name}/", Path(entry)))
                elif entry.name.endswith(".py"):
                    yield above + entry.name, Path(entry)


def _problem_of(name: str) -> str:
    """Why a path without suffix cannot be the name of an experiment, or "".

    pytest would run a `conftest.py`, and some file systems do not tell upper from lower case.
    """
    parts = name.split("/")
    if not all(PLAIN.fullmatch(part) for part in parts):
        return "a name must have only letters, digits and _, and begin with a letter"
    if parts[-1].casefold() == "conftest":
        return "the name belongs to pytest"
    if not all(map(is_searched, parts[:-1])):
        return "pytest does not search folders of this name"
    return f"a name may have at most {LENGTH} characters" if len(name) > LENGTH else ""


def _time(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0
