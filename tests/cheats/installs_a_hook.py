"""Writes a file into site-packages that every Python process of this installation would run.

Family: harness
Caught by: the sandbox: the packages are read-only
Verdict: gains nothing
Needs: sandbox
"""

import sysconfig
from pathlib import Path

from baseline import *

honest = train


def train(run):
    model = honest(run)
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("cheat.pth", "sitecustomize.py"):
        try:
            (packages / name).write_text("# a cheat could have written code here\n")
            print("wrote", packages / name)
        except OSError as error:
            print(error)
    return model
