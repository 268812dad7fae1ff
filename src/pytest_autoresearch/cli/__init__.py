"""The `autoresearch` command: begin projects, tracks and experiments, prepare text, show programs and patches.

Must not decide anything: each module reads the options of some commands, calls the rooms below, and prints.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from pytest_autoresearch.cli import brief, history, init, loop, new, programs, suggest, tracks
from pytest_autoresearch.cli.command import Command
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line, quoted
from pytest_autoresearch.judging.project import find_project


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, what a command returns, or 2 after one line on standard error."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        hint = "; options for pytest follow behind `--`" if options.command == "loop" else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        project, settings = options.find(Path.cwd())
        code: int | None = options.run(
            Command(project, options.track or settings.get("autoresearch_track") or None), options
        )
    except UsageError as error:
        print(f"autoresearch: {one_line(str(error))}", *quoted(error.detail), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("autoresearch: interrupted; finished parts are kept, and the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        sys.stderr.close()
        return 0
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autoresearch", description="Experiments as tests: the tools beside pytest.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('pytest-autoresearch')}")
    parser.add_argument(
        "--ar-track", "--track", dest="track", metavar="NAME", help="track (default: as pytest chooses)"
    )
    parser.set_defaults(find=find_project)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (init, tracks, new, programs, history, brief, suggest, loop):
        module.add_commands(commands)
    for action in commands._choices_actions:  # the line of `autoresearch --help` heads the command's own help, too
        commands.choices[action.dest].description = (action.help or "").replace("%", "%%")
    return parser
