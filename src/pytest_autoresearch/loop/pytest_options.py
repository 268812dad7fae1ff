"""What pytest's options say about judging, so that the loop has the track, the budget and the sandbox of pytest.

Options come from pytest's settings (`addopts`), from PYTEST_ADDOPTS, and from behind `--` on the loop's command line.
The later ones decide.
"""

import argparse
import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.project import Options, Project, read_settings

ONE_EXPERIMENT = "the loop has pytest judge one experiment at a time, and chooses it"
REFUSED = {
    "--ar-rerun": "it would train again what is judged already, without an end",
    "--ar-record": "record the baseline first, with `pytest experiments --ar-record`",
    "--ar-trials": "sweeps do not wait for a loop; run pytest on their files",
    "--ar-sampler": "sweeps do not wait for a loop; run pytest on their files",
    "--ar-finalists": "sweeps do not wait for a loop; run pytest on their files",
    "--ar-hours": "it is for one session; give the loop --hours",
    "--ar-until": "it is for one session; give the loop --until",
    "--ar-patience": "it is for one session; give the loop --patience",
    "--ar-status": "the loop gives it to pytest itself",
    "--numprocesses": "give the loop -n",
    "--collect-only": "nothing would be judged",
    "--co": "nothing would be judged",
    "--setup-plan": "nothing would be judged",
    "--setup-only": "nothing would be judged",
    **dict.fromkeys(("--deselect", "--ignore", "--ignore-glob", "--lf", "--last-failed", "--pyargs"), ONE_EXPERIMENT),
    **dict.fromkeys(("--sw", "--stepwise", "--nf", "--ff", "--rootdir", "--config-file"), ONE_EXPERIMENT),
}
"""pytest's options that make no sense in a loop, and why."""
SHORT = {"-k": ONE_EXPERIMENT, "-m": ONE_EXPERIMENT, "-n": "give the loop -n", "-c": ONE_EXPERIMENT}
"""Such options of one letter, whose value may follow without a space."""

USAGE_ERROR = re.compile(rb"^ERROR: usage: .*\n.*?: error: (.+)", re.MULTILINE)
"""How pytest says that it does not understand an option."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"options for pytest: {one_line(message)}")


def judging_options(project: Project, track: str | None, words: Sequence[str]) -> Options:
    """The options that pytest will judge by, given the loop's track and the words behind `--`.

    UsageError if one of these words makes no sense in a loop.
    """
    parser = _Parser(add_help=False, allow_abbrev=False, usage="")
    parser.add_argument("--ar-track")
    parser.add_argument("--ar-budget")
    parser.add_argument("--ar-seeds", type=int)
    parser.add_argument("--ar-no-promote", action="store_true")
    parser.add_argument("--ar-retest", action="store_true")
    parser.add_argument("--ar-sandbox", choices=["auto", "bwrap", "off"], default="auto")
    settings = read_settings(project.root) or {}
    from_files = [*as_words(settings.get("addopts", "")), *as_words(os.environ.get("PYTEST_ADDOPTS", ""))]
    known, _ = parser.parse_known_args([*from_files, *words])
    for_judging, rest = parser.parse_known_args(list(words))
    check_words(project, rest)
    own = for_judging.ar_track
    if track and own and own != track:
        raise UsageError(f"--track {track} and, for pytest, --ar-track {own}: give one of them")
    return Options(
        track=own or track or known.ar_track or settings.get("autoresearch_track") or None,
        budget=known.ar_budget,
        seeds=known.ar_seeds,
        promote=not known.ar_no_promote,
        retest=known.ar_retest,
        sandbox=known.ar_sandbox,
    )


def as_words(text: str) -> list[str]:
    """The words of `addopts`, a line, or in a TOML file perhaps a list. UsageError if a quote is not closed."""
    try:
        return [str(word) for word in ast.literal_eval(text)] if text.startswith("[") else shlex.split(text)
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"options for pytest: {one_line(text)}: {error}") from None


def check_words(project: Project, words: Sequence[str]) -> None:
    """UsageError if a word is a path, or an option that makes no sense in a loop."""
    for word in words:
        name = word.partition("=")[0]
        why = REFUSED.get(name) or (SHORT.get(word[:2]) if not word.startswith("--") else None)
        if not word.startswith("-") and is_path(project.root, word):
            why = ONE_EXPERIMENT
        if why:
            raise UsageError(f"{one_line(word)}: not in a loop: {why}")


def check_with_pytest(project: Project, words: Sequence[str]) -> None:
    """UsageError if pytest does not understand the words: it would judge nothing, all night."""
    command = [sys.executable, "-m", "pytest", *words, "--markers"]  # reads all options, and collects nothing
    ended = subprocess.run(command, cwd=project.root, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if found := USAGE_ERROR.search(ended.stderr):
        raise UsageError(f"options for pytest: {one_line(found[1].decode(errors='replace'))}")


def is_path(root: Path, word: str) -> bool:
    """Whether a word names files: pytest would judge those, too."""
    return "::" in word or word.endswith(".py") or any((folder / word).exists() for folder in (root, Path.cwd()))
