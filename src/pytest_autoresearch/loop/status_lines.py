"""The state of a loop in at most four lines: what trains, what waits, who has ideas, and what came of it so far."""

from collections.abc import Sequence

from tqdm import tqdm
from tqdm.utils import disp_len, disp_trim

from pytest_autoresearch.core.text import counted, duration, fitting, one_line
from pytest_autoresearch.judging.progress import BAR_WIDTH, FORMAT, run_details
from pytest_autoresearch.loop.status import AgentStatus, RunStatus, Status
from pytest_autoresearch.loop.words import dollars, queue_words

NARROW = 45
"""Below so many columns a run has no bar."""


def status_lines(status: Status, width: int) -> list[str]:
    """The lines, none longer than `width` columns. Two runs have a line each; of more, all but one share a line."""
    runs = [_run_line(run, width) for run in status.runs[:2]]
    if len(status.runs) > 2:
        runs[1] = ", ".join(map(_short_run, status.runs[1:]))
    agents = _agents(status, width)
    if len(runs) == 2:
        others = ["; ".join([_waiting(status.waiting, width // 3), *agents])]
    else:
        others = [_waiting(status.waiting, width), *["; ".join(agents)] * bool(agents)]
    lines = [*(runs or ["nothing trains"]), *others, fitting(_so_far(status), width)]
    return [_cut(line, width) for line in lines]


def _run_line(run: RunStatus, width: int) -> str:
    """`rmsnorm run 1/3 training █████▍        46%, loss 2.314, 6 s left`"""
    what = _what(run)
    if not run.stage:
        return f"{what} …"
    told = run_details(run.stage, run.loss, run.seconds_left)
    if width < NARROW:
        return fitting([f"{_cut(what, max(width - 5, 1))} {run.done:.0%}", *told], width)
    what = _cut(what, width - BAR_WIDTH)
    postfix = fitting(told, width - disp_len(what) - BAR_WIDTH)
    return tqdm.format_meter(
        min(max(run.done, 0.0), 1.0), 1.0, 0.0, width, prefix=what, bar_format=FORMAT, postfix=postfix
    )


def _what(run: RunStatus) -> str:
    return one_line(f"{run.label or run.experiment} {run.stage}")


def _short_run(run: RunStatus) -> str:
    return f"{_what(run)} {run.done:.0%}" if run.stage else f"{_what(run)} …"


def _waiting(names: Sequence[str], width: int) -> str:
    """`5 wait: rope, muon and 3 more`, with as many names as fit."""
    lines = [queue_words(names, shown) for shown in range(len(names), 0, -1)]
    return next((line for line in lines if disp_len(line) <= width), queue_words(names, 1))


def _agents(status: Status, width: int) -> list[str]:
    """Whether the loop is about to end, what the agents are at, and why none is asked."""
    room = max(width // max(len(status.agents), 1) - 2, 20)  # so that one long idea does not hide the other agents
    agents = [_cut(_agent(agent), room) for agent in status.agents]
    return [*filter(None, [one_line(status.stopping), *agents, one_line(status.pause)])]


def _agent(agent: AgentStatus) -> str:
    idea = f": {one_line(agent.idea)}" if agent.idea else ""
    return f"agent of round {agent.number}, {duration(agent.seconds)}{idea}"


def _so_far(status: Status) -> list[str]:
    """What came of it, the most wanted first."""
    parts = []
    if status.best is not None:
        parts.append(f"best {status.best:.4f}")
        if status.first not in (None, status.best):
            parts[0] += f" ({status.best - status.first:+.4f} since {status.first:.4f})"
    promoted = sum(verdict.status == "keep" for verdict in status.verdicts)
    parts.append(counted(len(status.verdicts), "verdict"))
    if promoted:
        parts.append(f"{promoted} promoted")
    if status.verdicts and status.hours > 0:
        parts.append(f"{len(status.verdicts) / status.hours:.1f} an hour")
    parts.append(f"device busy {status.busy:.0%}")
    if status.dollars:
        parts.append(dollars(status.dollars))
    return parts


def _cut(line: str, width: int) -> str:
    """The line in at most so many columns; `…` ends one that was longer."""
    return line if disp_len(line) <= width else f"{disp_trim(line, width - 1)}…"
