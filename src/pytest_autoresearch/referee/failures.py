"""How runs fail: the outcome and the reason, from the candidate's last message."""

import ast
import re

from pytest_autoresearch.core.protocol import Message, Raised
from pytest_autoresearch.core.records import Outcome


class Failed(Exception):
    """The run is over without a score. `detail` may hold the candidate's traceback or its last lines."""

    def __init__(self, outcome: Outcome, reason: str, detail: str = "", interrupted: bool = False) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.detail, self.interrupted = outcome, reason, detail, interrupted


NO_ROOM = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
ASKED = re.compile(r"allocate (\d+(?:\.\d+)?) ?(bytes|[KMGTP]iB)")  # as torch and NumPy say it


def crash(raised: Raised, source: str, memory: float | None) -> Failed:
    """The outcome of an exception in the program; `memory` is what the track allows (bytes)."""
    error, detail = printable(raised.error, 300), printable(raised.traceback, 10_000)
    if raised.kind == "Diverged":
        return Failed(Outcome.DIVERGED, error)
    kinds = ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError")
    if raised.kind in kinds or any(words in error for words in NO_ROOM):
        asked = ASKED.search(raised.error)
        units = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50}
        gigabytes = float(asked[1]) * units[asked[2]] / 1e9 if asked else 0.0
        what = f"{gigabytes:{',.0f' if gigabytes >= 10 else '.2g'}} GB asked" if asked else error
        limit = f", {memory / 1e9:.2g} GB allowed in all" if memory else ""
        return Failed(Outcome.OUT_OF_MEMORY, f"{what}{limit}; {oom_hint(source)}", detail)
    return Failed(Outcome.CRASHED, error, detail)


def oom_hint(source: str) -> str:
    """Advice for a program that ran out of memory. Names the constant that it passes to `run.batches`."""
    tree = ast.parse(source)
    passed, named = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "batches":
            sizes = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "batch_size")]
            passed += [name.id for size in sizes for name in ast.walk(size) if isinstance(name, ast.Name)]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and "BATCH_SIZE" in node.id:
            named.append(node.id)
    constant = next((name for name in (*passed, *named) if name.isupper()), "the batch size")
    return f"lower {constant} or the model"


def unexpected(message: Message) -> Failed:
    """The outcome of a well-formed message at the wrong time."""
    return Failed(Outcome.DISQUALIFIED, f"sent an unexpected message: {printable(str(message), 80)}")


def printable(text: str, length: int) -> str:
    """A candidate's text, cut to `length` characters, with U+FFFD for characters that do not print."""
    words = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text[: length + 1])
    return words if len(words) <= length else f"{words[:length]} …"
