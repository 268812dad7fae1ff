"""`autoresearch history`: every verdict of a track as a table or as JSON, and the lineage of its baselines."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tabulate import tabulate

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.core.text import counted, cut, escaped, one_line
from pytest_autoresearch.judging.project import Options
from pytest_autoresearch.programs.spelling import did_you_mean
from pytest_autoresearch.research.history import Entry, History

CHANGES_WIDTH = 24
"""The most columns that the changed names take in a terminal."""


def add_commands(commands: Commands) -> None:
    """`history`."""
    parser = commands.add_parser("history", help="every verdict of a track, and the lineage of its baselines")
    parser.add_argument(
        "--sort", metavar="COLUMN", default="when", help="order by a column; --sort=-delta for the reverse order"
    )
    parser.add_argument(
        "--outcome",
        action="append",
        type=lambda text: text.replace("-", " ").lower(),
        choices=[str(outcome) for outcome in Outcome],
        help="only these; may be given more than once",
    )
    parser.add_argument("--match", metavar="TEXT", help="only with this text in name, description or changes")
    parser.add_argument("--trials", action="store_true", help="with the trials of sweeps")
    parser.add_argument("--last", metavar="N", type=int, help="only the latest N of these")
    parser.add_argument("--lineage", action="store_true", help="only the lineage of baselines")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=show_history)


def show_history(command: Command, options: argparse.Namespace) -> None:
    """Print the verdicts that the options select, then the lineage. UsageError if `--last` is below 1."""
    if options.last is not None and options.last < 1:
        raise UsageError(f"--last {options.last}: must be at least 1")
    history = History.read(command.context.ledger, track_of(command))
    entries = [] if options.lineage else ordered(selected(history, options), options.sort, history.baseline_names)
    if options.json:
        print(json.dumps(as_json(history, entries), indent=1))
        return
    if not history.entries:
        others = sorted({row.get("track", "") for row in command.context.ledger.rows()} - {""})
        there = f"; the ledger has: {', '.join(others)}" * bool(others)
        judging = Options(track=command.track and command.track.partition("@")[0]).on_track("pytest experiments")
        print(escaped(f"track {history.track}: no verdict yet{there}; `{judging}` judges every experiment"))
        return
    if entries:
        print(*fitting(table(entries, history.baseline_names)), "", sep="\n")
    elif not options.lineage:
        print("no such verdict\n")
    print(lineage_table(history))
    print(closing_line(history, trials_shown=options.trials))


def track_of(command: Command) -> str:
    """The name of the track. That of a quick look, such as `cpu@20steps`, is known to the ledger only."""
    if command.track and "@" in command.track:
        return command.track
    return command.project.choose_track(Options(track=command.track)).name


def selected(history: History, options: argparse.Namespace) -> list[Entry]:
    """The verdicts that the options ask for, in the order of the ledger."""
    wanted = (options.match or "").lower()
    trials = options.trials or Outcome.TRIED in (options.outcome or [])
    known = [*history.verdicts, *history.trials] if trials else history.verdicts
    found = [
        entry
        for entry in sorted(known, key=lambda entry: entry.finished_at)
        if (not options.outcome or entry.outcome in options.outcome)
        and any(wanted in text.lower() for text in (entry.experiment, entry.description, " ".join(entry.changes)))
    ]
    return found if options.last is None else found[-options.last :]


# -- the table --


def columns(names: dict[str, str]) -> dict[str, Callable[[Entry], Any]]:
    """For each column, the value of an entry by which rows are sorted; None comes last. `names`: of baselines."""
    return {
        "when": lambda entry: entry.finished_at,
        "experiment": lambda entry: entry.experiment,
        "val_bpb": lambda entry: entry.val_bpb,
        "delta": lambda entry: entry.delta,
        "p": lambda entry: entry.p_value,
        "verdict": lambda entry: str(entry.outcome) + ", promoted" * entry.is_baseline,
        "baseline": lambda entry: names.get(entry.baseline_sha, entry.baseline_sha[:7]),
        "changes": lambda entry: " ".join(entry.changes),
        "description": lambda entry: entry.description,
    }


def ordered(entries: Sequence[Entry], column: str, names: dict[str, str]) -> list[Entry]:
    """The entries by a column, from the highest if its name begins with `-`. UsageError if there is no such column."""
    known, name = columns(names), column.removeprefix("-")
    if name not in known:
        hint = did_you_mean(name, known) or f"there is: {', '.join(known)}"
        raise UsageError(f"--sort {column}: no such column; {hint}")
    value = known[name]
    having = [entry for entry in entries if value(entry) is not None]
    lacking = [entry for entry in entries if value(entry) is None]
    return sorted(having, key=value, reverse=column != name) + lacking


def table(entries: Sequence[Entry], names: dict[str, str]) -> list[str]:
    """The lines of the table."""
    values, terminal = columns(names), sys.stdout.isatty()

    def row(entry: Entry) -> list[str]:
        numbers = (entry.val_bpb, ".4f"), (entry.delta, "+.4f"), (entry.p_value, ".2g")
        changes = one_line(values["changes"](entry))
        return [
            escaped(to_the_minute(entry.finished_at)),
            escaped(entry.experiment),
            *("" if number is None else format(number, spec) for number, spec in numbers),
            entry.outcome.upper() + ", promoted" * entry.is_baseline,
            escaped(values["baseline"](entry)),
            cut(changes, CHANGES_WIDTH) if terminal else changes,
            one_line(entry.description),
        ]

    align = ("left", "left", "right", "right", "right", *["left"] * 4)
    headers = ["when (UTC)", *list(values)[1:]]
    rows = [row(entry) for entry in entries]
    return tabulate(rows, headers, tablefmt="simple", colalign=align, disable_numparse=True).splitlines()


def fitting(lines: Sequence[str]) -> list[str]:
    """The lines cut to the width of a terminal; whole in a pipe."""
    if not sys.stdout.isatty():
        return list(lines)
    width = shutil.get_terminal_size().columns
    return [cut(line, width) for line in lines]


def to_the_minute(time: str) -> str:
    """A time of ISO 8601 without what is below a minute: `2026-01-31 12:05`."""
    return time[:16].replace("T", " ")


# -- the lineage --


def lineage_table(history: History) -> str:
    """The baselines, oldest first: what each scored, what it gained, and how many verdicts it took to find it."""
    rows = [
        [
            escaped(history.baseline_names.get(step.baseline.program_sha, step.baseline.program_sha[:7])),
            "" if step.baseline.val_bpb is None else f"{step.baseline.val_bpb:.4f}",
            "" if step.gain is None else f"{step.gain:.4f}",
            str(step.verdicts) if step.gain is not None else "",
        ]
        for step in history.lineage
    ]
    align = ("left", "right", "right", "right")
    return tabulate(rows, ["baseline", "val_bpb", "gain", "verdicts"], "simple", colalign=align, disable_numparse=True)


def closing_line(history: History, trials_shown: bool) -> str:
    """How many verdicts there are since the last keep, and how many trials are not shown."""
    line = f"{counted(len(history.since_keep), 'verdict')} since the last keep"
    if len(history.since_keep) == len(history.verdicts):
        line = f"{counted(len(history.verdicts), 'verdict')}, none kept yet"
    hidden = len(history.trials) * (not trials_shown)
    return line + f"; {counted(hidden, 'trial')} of sweeps (--trials shows them)" * bool(hidden)


def as_json(history: History, entries: Sequence[Entry]) -> dict[str, Any]:
    """`track`, `verdicts` (in the order of the table), `lineage` (oldest first) and `since_keep`, as plain values."""
    names = history.baseline_names
    return {
        "track": history.track,
        "verdicts": [
            dict(vars(entry)) | {"baseline": names.get(entry.baseline_sha), "promoted": entry.is_baseline}
            for entry in entries
        ],
        "lineage": [
            {
                "experiment": step.baseline.experiment,
                "val_bpb": step.baseline.val_bpb,
                "gain": step.gain,
                "verdicts": step.verdicts,
                "program_sha": step.baseline.program_sha,
                "finished_at": step.baseline.finished_at,
            }
            for step in history.lineage
        ],
        "since_keep": len(history.since_keep),
    }
