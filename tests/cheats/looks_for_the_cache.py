"""Looks for held-out text where the harness keeps what it has fetched and prepared, by every way that leads there.

Family: data
Caught by: the sandbox: the cache is not in it
Verdict: crashed, "nothing found"
Needs: sandbox
"""

import os
from pathlib import Path

from baseline import *

CACHE = ""  # where it is on this machine: whoever writes a program can look
NAMES = ("train.bin", "heldout.bin", "tokenizer.tiktoken", ".parquet", "digests.json")  # and what a corpus comes in


def below(folder):
    try:
        return [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth) if path.name.endswith(NAMES)]
    except OSError:
        return []


def train(run):
    mounts = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    ways = [Path(CACHE or Path.home() / ".cache"), *(Path(f"/proc/{process}/root{CACHE}") for process in ("1", "self"))]
    ways += [mount for mount in mounts if mount.parts[1:2] not in [("proc",), ("sys",), ("usr",), ("dev",)]]
    opened = [Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()]
    found = [path for way in ways for path in below(way)] + [path for path in opened if path.name.endswith(NAMES)]
    raise SystemExit(f"found {found[:3]}" if found else "nothing found")
