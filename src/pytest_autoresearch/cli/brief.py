"""The command `brief`: what a newcomer should know of a track before the next idea."""

import json

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.research.brief import make_brief
from pytest_autoresearch.research.brief_json import as_dict
from pytest_autoresearch.research.brief_text import render


def add_commands(commands: Commands) -> None:
    """`brief`."""
    parser = commands.add_parser("brief", help="say what has been tried and what to try next, in under 2,000 tokens")
    parser.add_argument("--json", action="store_true", help="the same facts as one JSON object")
    parser.set_defaults(run=lambda command, options: brief(command, options.json))


def brief(command: Command, as_json: bool) -> None:
    """Print the brief of the track as Markdown, or as JSON."""
    facts = make_brief(command.context)
    if as_json:
        print(json.dumps(as_dict(facts), indent=1, ensure_ascii=False))
    else:
        print(render(facts), end="")
