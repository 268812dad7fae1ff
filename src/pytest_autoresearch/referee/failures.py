"""How runs fail: the verdict on what a candidate said before it ended, and the words for it."""

import ast
import re
from typing import Any

from pytest_autoresearch.core.records import Outcome


class Failed(Exception):
    """The run is over without a score."""

    def __init__(self, outcome: Outcome, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.detail = outcome, reason, detail


NO_ROOM = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
ASKED = re.compile(r"allocate (\d+(?:\.\d+)?) ?(bytes|[KMGTP]iB)")  # as torch and NumPy say it


def crash(message: dict[str, Any], source: str, memory: float | None) -> Failed:
    """The verdict on an exception in the program; `memory` is what the track allows (bytes)."""
    error, kind = printable(message.get("error", ""), 300), str(message.get("kind", ""))
    detail = printable(message.get("traceback", ""), 10_000)
    if kind == "Diverged":
        return Failed(Outcome.DIVERGED, error)
    if kind in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError") or any(words in error for words in NO_ROOM):
        asked = ASKED.search(str(message.get("error", "")))
        units = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50}
        gigabytes = float(asked[1]) * units[asked[2]] / 1e9 if asked else 0.0
        what = f"{gigabytes:{',.0f' if gigabytes >= 10 else '.2g'}} GB asked" if asked else error
        limit = f", {memory / 1e9:.2g} GB allowed in all" if memory else ""
        return Failed(Outcome.OUT_OF_MEMORY, f"{what}{limit}; {remedy(source)}", detail)
    return Failed(Outcome.CRASHED, error, detail)


def remedy(source: str) -> str:
    """What to lower where memory has run out: the constant that the program hands to `run.batches`, by its name."""
    tree = ast.parse(source)
    handed, named = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "batches":
            sizes = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "batch_size")]
            handed += [name.id for size in sizes for name in ast.walk(size) if isinstance(name, ast.Name)]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and "BATCH_SIZE" in node.id:
            named.append(node.id)
    constant = next((name for name in (*handed, *named) if name.isupper()), "the batch size")
    return f"lower {constant} or the model"


def printable(text: object, length: int) -> str:
    """What a candidate said, short enough to show, and without what no file or terminal takes."""
    words = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text)[: length + 1])
    return words if len(words) <= length else f"{words[:length]} …"


def is_count(value: object) -> bool:
    """Whether a candidate's number is one that counts something: it may have sent anything."""
    return type(value) is int and 0 <= value < 2**63
