"""The workflow of GitHub Actions that `init --ci github` writes."""

import json
import os
import shlex
from pathlib import Path

from pytest_autoresearch.core.track import read_track, track_names
from pytest_autoresearch.judging.project import Options, Project

PATH = ".github/workflows/experiments.yml"
TEMPLATE = """\
# Judges the project's experiments on a machine of your own with a GPU: a self-hosted runner with the label `gpu`.
# The machine needs Python 3.11 or later, and bubblewrap (apt install bubblewrap) for the sandbox of the programs.
# There is no trigger `pull_request`: in a public repository it would let anybody run code on the machine.
name: experiments

on:
  push:
    paths: [{paths}]
  workflow_dispatch:

permissions:
  contents: read

concurrency:  # one job at a time has the GPU
  group: experiments
  cancel-in-progress: false

jobs:
  judge:
    runs-on: [self-hosted, gpu]
    timeout-minutes: 360
{folder}    steps:
      - uses: actions/checkout@v4
        with:
          clean: false  # keeps .venv, results.tsv and results/, so that what was judged is not trained again

      - name: Install
        run: |
          python3 -m venv .venv
          .venv/bin/pip install 'pytest-autoresearch[hub]'

      # Exit code 1 means that some ideas were not kept. That is a result and no error; the other codes are errors.
      # After five hours no further experiment begins. Promotions are yours to make and to commit.
      - name: Judge
        run: .venv/bin/{pytest} --ar-hours 5 --ar-no-promote || [ $? -eq 1 ]

      # The records of the baseline are among the results: commit baseline.json, and the next job need not make one.
      - name: Upload results
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: results
          path: |
{results}
"""


def workflow(project: Project) -> tuple[Path, str]:
    """The file in the repository that holds the project, and its text."""
    root = next(
        (folder for folder in (project.root, *project.root.parents) if (folder / ".git").exists()), project.root
    )
    where = project.root.relative_to(root)
    folders = [os.path.relpath(folder, project.root) for folder in (project.experiments, project.baseline)]
    prefix = "" if where == Path() else f"{where.as_posix()}/"
    paths = ", ".join(json.dumps(f"{prefix}{folder}/**", ensure_ascii=False) for folder in folders)
    folder = f"    defaults:\n      run:\n        working-directory: {json.dumps(where.as_posix())}\n" if prefix else ""
    results = ("results.tsv", "results/", f"{folders[1]}/*/baseline.json")
    text = TEMPLATE.format(
        paths=paths,
        folder=folder,
        pytest=Options(track=gpu_track(project)).on_track(f"pytest {shlex.quote(folders[0])}"),
        results="\n".join(f"            {prefix}{result}" for result in results),
    )
    return root / PATH, text


def gpu_track(project: Project) -> str | None:
    """The project's track for a GPU: `cuda`, or the first other one with that device; None if there is none."""
    names = track_names(project.baseline)
    tracks = [read_track(project.baseline / name) for name in sorted(names, key=lambda name: (name != "cuda", name))]
    return next((track.name for track in tracks if track.device == "cuda"), None)
