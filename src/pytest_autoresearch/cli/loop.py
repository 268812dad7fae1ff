"""`autoresearch loop`: an agent proposes, pytest judges, until a limit is reached."""

import argparse
import math
import os
import sys
from contextlib import suppress

from pytest_autoresearch.cli.command import Command, Commands
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.display import open_display
from pytest_autoresearch.loop.limits import LoopOptions
from pytest_autoresearch.loop.presets import find_agent
from pytest_autoresearch.loop.pytest_options import judging_options
from pytest_autoresearch.loop.pytest_process import ROUND
from pytest_autoresearch.loop.supervisor import Supervisor
from pytest_autoresearch.referee.local import LocalExecutor


def add_commands(commands: Commands) -> None:
    """`loop`."""
    parser = commands.add_parser("loop", help="ask an agent for experiments and judge them, until a limit is reached")
    add = parser.add_argument
    add("--agent", metavar="CMD", required=True, help="claude, codex, opencode, gemini, pi, random, or any command")
    add("--experiments", metavar="N", help="stop after N verdicts for which something was trained")
    add("--hours", metavar="H", help="begin nothing after H hours; what trains is judged to its end")
    add("--until", metavar="VAL_BPB", help="stop once the baseline, or what was kept, scores VAL_BPB or less")
    add("--patience", metavar="N", help="stop after N verdicts in a row without a keep")
    add("--cost", metavar="USD", help="ask no agent once they have cost USD dollars; what waits is judged")
    add("--ahead", metavar="K", default="2", help="ask an agent while fewer than K experiments wait (default: 2)")
    add("--agents", metavar="N", default="1", help="ask N agents at once, each in a folder of its own (default: 1)")
    add("-n", dest="workers", metavar="WORKERS", default="1", help="judge so many experiments at once (default: 1)")
    add("--commit", action="store_true", help="make a git commit of each promotion, and of nothing else")
    add("--track", "--ar-track", dest="track", metavar="NAME", default=argparse.SUPPRESS, help="track to judge on")
    add("--agent-timeout", metavar="MINUTES", default="30", help="end an agent's session after so long (default: 30)")
    add("--agent-sandbox", action="store_true", help="run the agent in bubblewrap: it writes only to its own folder")
    add("pytest_options", nargs="*", metavar="OPTION", help="after `--`: options for pytest")
    parser.set_defaults(run=loop)


def loop(command: Command, options: argparse.Namespace) -> int:
    """Run a loop and print its summary. UsageError if it cannot begin."""
    if os.environ.get(ROUND):
        raise UsageError("in a round of autoresearch loop: write the file and exit; the loop judges it")
    words, track = tuple(options.pytest_options), options.track  # not that of the settings, which pytest knows
    limits = LoopOptions(
        experiments=_whole("--experiments", options.experiments),
        hours=_number("--hours", options.hours),
        until=_number("--until", options.until),
        patience=_whole("--patience", options.patience),
        dollars=_number("--cost", options.cost),
        ahead=_whole("--ahead", options.ahead, 0) or 0,
        agents=_whole("--agents", options.agents) or 1,
        workers=_whole("-n", options.workers) or 1,
        commit=options.commit,
        agent_timeout=60 * (_number("--agent-timeout", options.agent_timeout) or 30),
        agent_sandbox=options.agent_sandbox,
        pytest_options=(*(("--ar-track", track) if track else ()), *words),
    )
    agent = find_agent(options.agent)
    project = command.project
    context = Context(project, judging_options(project, track, words), LocalExecutor(project.root))
    supervisor = Supervisor(context, agent, limits, open_display(sys.stdout))
    try:
        return supervisor.run()
    finally:
        if supervisor.summary:
            print(*supervisor.summary, sep="\n", flush=True)


def _whole(option: str, text: str | None, least: int = 1) -> int | None:
    """A whole number from `least` on; None if the option is not given. UsageError."""
    if text is None:
        return None
    with suppress(ValueError):
        if (number := int(text)) >= least:
            return number
    raise UsageError(f"{option} {one_line(text)}: must be a whole number of at least {least}")


def _number(option: str, text: str | None) -> float | None:
    """A number above zero; None if the option is not given. UsageError."""
    if text is None:
        return None
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise UsageError(f"{option} {one_line(text)}: must be a number above 0")
