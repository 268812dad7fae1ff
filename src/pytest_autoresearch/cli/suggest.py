"""`autoresearch suggest`: what is worth a run without a new idea, and on request the runs."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import escaped
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.research.history import History
from pytest_autoresearch.research.suggest import Suggestion, suggest

SHOWN = 10


def add_commands(commands: Commands) -> None:
    """`suggest`."""
    parser = commands.add_parser(
        "suggest", help="print what is worth a run without a new idea: near misses, pairs of ideas, a simplification"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print it as JSON")
    what.add_argument(
        "--run", dest="first", type=int, metavar="N", help="write the first N, and have pytest judge them"
    )
    parser.add_argument("pytest_options", nargs="*", metavar="OPTION", help="after `--`: options for pytest")
    parser.set_defaults(run=lambda command, options: run(command, options.first, options.json, options.pytest_options))


def run(command: Command, count: int | None, as_json: bool, pytest_options: Sequence[str]) -> int:
    """Print suggestions; with a `count`, write and judge the first ones. The exit code is pytest's, or 0."""
    if pytest_options and count is None:
        raise UsageError(f"{pytest_options[0]}: options for pytest need --run N")
    if count is not None and count < 1:
        raise UsageError(f"--run {count}: must be at least 1")
    context = command.context
    options = replace(context.options, retest=True)  # what was judged against an earlier baseline is what it looks for
    context = Context(command.project, options, context.executor)
    suggestions = suggest(context, History.read(context.ledger, context.track.name), count or SHOWN)
    if as_json:
        numbered = enumerate(suggestions, 1)
        print(json.dumps([_as_dict(command, context, number, each) for number, each in numbered], indent=1))
        return 0
    print(_table(context, suggestions))
    if count is None or not suggestions:
        print("".join(f"{line}\n" for line in _commands(command, context, suggestions)), end="")
        return 0
    for each in suggestions:
        each.write()
    print(flush=True)
    return _judge(command, context, suggestions, pytest_options)


def _judge(command: Command, context: Context, suggestions: Sequence[Suggestion], options: Sequence[str]) -> int:
    """Run pytest on the files of the suggestions. Ctrl-C is for pytest, which says what was kept."""
    files = [str(each.path) for each in suggestions]
    arguments = [sys.executable, "-m", "pytest", *files, "--ar-retest", *_track(command), *options]
    with subprocess.Popen(arguments, cwd=context.project.root) as process:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _table(context: Context, suggestions: Sequence[Suggestion]) -> str:
    from tabulate import tabulate

    track = context.track.name
    if not suggestions:
        return f"track {track}: nothing to suggest: no near miss, no pair and no simplification; write a new idea"
    rows = [[f"{each.gain:.4f}", each.kind, escaped(each.name), escaped(each.why)] for each in suggestions]
    headers = ["gain", "kind", f"track {track}", "why"]
    align = ("right", "left", "left", "left")
    return tabulate(rows, headers=headers, tablefmt="simple", colalign=align, disable_numparse=True)


def _commands(command: Command, context: Context, suggestions: Sequence[Suggestion]) -> list[str]:
    """What the gains mean, and the commands that judge each suggestion and the first ones together."""
    if not suggestions:
        return []
    gain = "gain: the val_bpb to expect: delta × (1 − p) of an idea, half of what both promise of a pair"
    lines = dict.fromkeys(_command(command, context, number, each) for number, each in enumerate(suggestions, 1))
    together = _shell("autoresearch", *_track(command), "suggest", "--run", str(min(5, len(suggestions))))
    judging = [line for line in lines if "--run" not in line]
    return ["", gain, "", *judging, f"{together}  # writes and judges the first ones"]


def _command(command: Command, context: Context, number: int, each: Suggestion) -> str:
    """The command that writes a suggestion where it is not there, and judges it."""
    judging = _shell("pytest", context.relative(each.path), "--ar-retest", *_track(command))
    if each.text is None:
        return judging
    if each.parts:
        return f"{_shell('autoresearch', *_track(command), 'new', each.name, '--combine', *each.parts)} && {judging}"
    return _shell("autoresearch", *_track(command), "suggest", "--run", str(number))


def _track(command: Command) -> list[str]:
    return ["--ar-track", command.track] if command.track else []


def _shell(*words: str) -> str:
    return escaped(shlex.join(words))


def _as_dict(command: Command, context: Context, number: int, each: Suggestion) -> dict[str, object]:
    return {
        "kind": each.kind,
        "experiment": each.name,
        "file": context.relative(each.path),
        "is_there": each.text is None,
        "parts": list(each.parts),
        "why": each.why,
        "expected_gain": round(each.gain, 6),
        "command": _command(command, context, number, each),
    }
