"""The secret of a project, from which the order of scoring and the decoys of each run follow."""

import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    import numpy as np

SIZE = 32  # bytes


def project_secret(folder: Path) -> bytes:
    """The secret (SIZE bytes) in a folder that the sandbox hides. First use makes it, for the user alone to read.

    A damaged one is replaced. If none can be kept, each call makes a new one: then the same program is asked in another
    order the next time.
    """
    path = folder / ".secret"
    with suppress(OSError, NotImplementedError):  # a file system without locks
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".secret.lock"):  # two processes that start at once must agree
            found = path.read_bytes() if path.exists() else b""
            if len(found) == SIZE:
                return found
            new = secrets.token_bytes(SIZE)
            path.unlink(missing_ok=True)  # a kill may leave a part of one: the next call replaces it
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(new)
            return new
    return secrets.token_bytes(SIZE)


def secret_draw(secret: bytes, source: str, seed: int, data_key: str) -> "np.random.Generator":
    """Random numbers for one run, from the secret. The same program, seed and data get the same numbers again."""
    import numpy as np  # collection must not

    message = json.dumps([source, seed, data_key]).encode()
    return np.random.default_rng(int.from_bytes(hmac.digest(secret, message, "sha256")))
