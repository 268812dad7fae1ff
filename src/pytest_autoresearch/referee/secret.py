"""The secret of a project, from which the order of scoring and the decoys of each run follow."""

import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from pytest_autoresearch.core.files import temporary

SIZE = 32  # bytes


def project_secret(folder: Path) -> bytes:
    """The secret in a folder that the sandbox hides; it is made on first use, and readable by the user alone.

    A damaged one is replaced. If it cannot be kept, it is a new one each time: then a program's second run asks in
    another order.
    """
    path = folder / ".secret"
    with suppress(OSError, NotImplementedError):  # a file system without locks
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".secret.lock"):  # two processes that start at once must agree
            found = path.read_bytes() if path.exists() else b""
            if len(found) == SIZE:
                return found
            new = secrets.token_bytes(SIZE)
            temporary(path).unlink(missing_ok=True)  # left by a kill
            with open(os.open(temporary(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(new)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary(path), path)
            return new
    return secrets.token_bytes(SIZE)


def secret_draw(secret: bytes, source: str, seed: int, data_key: str) -> np.random.Generator:
    """Random numbers that the secret gives one run: the same program asks in the same order, any other in another."""
    message = json.dumps([source, seed, data_key]).encode()
    return np.random.default_rng(int.from_bytes(hmac.digest(secret, message, "sha256")))
