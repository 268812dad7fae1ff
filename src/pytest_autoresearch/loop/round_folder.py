"""`results/<track>/rounds/<number>/`: what is kept of a round, and the lock that says whether its loop lives."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pytest_autoresearch.core.files import now, write_atomically
from pytest_autoresearch.judging.context import Context

DEFAULTS: dict[str, Any] = {
    "agent": "",
    "fix": "",
    "asked": 0,
    "seconds": 0.0,
    "files": [],
    "refused": {},
    "trouble": "",
    "dollars": None,
    "tokens": None,
}
"""The facts of a round that has only begun: `asked` counts its sessions, `files` are experiments that came back."""


@dataclass
class RoundFolder:
    """The folder of a round that this process holds. `facts` are what `write` writes into `round.json`.

    While a round has no end, `before` among them holds the digests of the files that the agent was given.
    """

    path: Path
    number: int
    lock: FileLock
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, context: Context, facts: dict[str, Any]) -> "RoundFolder":
        """The folder of a new round, with the next number. OSError if it cannot be made."""
        root = rounds_folder(context)
        root.mkdir(parents=True, exist_ok=True)
        with lock_rounds(context):  # so that no other loop takes it for one that was left
            number = max(_folders(root), default=0) + 1
            folder = cls(root / str(number), number, FileLock(root / str(number) / ".lock"), {})
            folder.facts = deepcopy({**DEFAULTS, **facts, "started": now()})
            folder.path.mkdir()
            folder.lock.acquire(timeout=0)
        folder.write()
        return folder

    @classmethod
    def left(cls, context: Context) -> Iterator["RoundFolder"]:
        """The rounds without an end whose loops are gone: each is this process's now."""
        for number, path in sorted(_folders(rounds_folder(context)).items()):
            folder = cls(path, number, FileLock(path / ".lock"))
            if read_facts(path).get("ended") or not folder._take(context):
                continue
            folder.facts = read_facts(path)
            if folder.facts.get("ended"):
                folder.lock.release()
            else:
                yield folder

    def _take(self, context: Context) -> bool:
        with lock_rounds(context):
            try:
                self.lock.acquire(timeout=0)
            except Timeout:
                return False
        return True

    def write(self) -> None:
        """Write `round.json`. OSError if it cannot be written."""
        self.path.mkdir(parents=True, exist_ok=True)  # somebody may have removed it meanwhile
        write_atomically(self.path / "round.json", json.dumps(self.facts, indent=1) + "\n")

    def end(self) -> None:
        """Write the end of the round into `round.json`. OSError if it cannot be written."""
        self.facts["ended"] = now()
        for name in ("before", "scratch"):
            self.facts.pop(name, None)
        self.write()

    def let_go(self) -> None:
        """Release the lock: a round without an end is completed by the next loop."""
        self.lock.release()


def lock_rounds(context: Context) -> FileLock:
    """The lock of a track's rounds: whoever begins one, takes one over, or brings files back, holds it."""
    return context.evidence.lock(f"rounds of {context.track.name}")


def rounds_folder(context: Context) -> Path:
    """`results/<track>/rounds`."""
    return context.evidence.folder / context.track.name / "rounds"


def all_facts(context: Context) -> list[dict[str, Any]]:
    """What is known of each round, oldest first."""
    return [read_facts(path) for _, path in sorted(_folders(rounds_folder(context)).items())]


def read_facts(path: Path) -> dict[str, Any]:
    """What `round.json` in a folder says. Of what is not there, or not as we write it, what `DEFAULTS` says."""
    try:
        facts = json.loads((path / "round.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    facts = facts if isinstance(facts, dict) else {}
    broken = {
        name for name, value in DEFAULTS.items() if value is not None and type(facts.get(name)) is not type(value)
    }
    return deepcopy({**facts, **{name: DEFAULTS[name] for name in DEFAULTS if name in broken or name not in facts}})


def _folders(root: Path) -> dict[int, Path]:
    """The folders of rounds, by number."""
    if not root.is_dir():
        return {}
    return {int(path.name): path for path in root.iterdir() if path.name.isascii() and path.name.isdigit()}
