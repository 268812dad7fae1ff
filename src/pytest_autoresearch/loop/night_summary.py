"""The short form of a loop's account, for the terminal: at most 15 lines."""

from collections import Counter
from collections.abc import Sequence

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import counted, cut, one_line
from pytest_autoresearch.judging.project import Options
from pytest_autoresearch.loop.account import Account, counts, gained, shares
from pytest_autoresearch.loop.status import Status
from pytest_autoresearch.loop.words import p_value, promotion_event, queue_words, some

PROMOTIONS = 3
"""The most promotions that have a line each."""


def summary_lines(account: Account, status: Status, why_ended: str, path: str, options: Options) -> list[str]:
    """What was gained and by what, what was tried, what to look at. `path` is the file of the account, or ""."""
    agent = f"agent {cut(one_line(account.agent), 60)}"
    lines = [gained(status), f"{counts(account, status)}, {agent}", shares(account, status)]
    lines.append(f"ended: {one_line(why_ended)}")
    promoted = account.promoted
    lines += [_promotion(verdict) for verdict in promoted[-PROMOTIONS:]]
    if len(promoted) > PROMOTIONS:
        lines.append(f"and {counted(len(promoted) - PROMOTIONS, 'earlier promotion')}")
    lines += [f"{head}: {rest}" for head, rest in _to_look_at(account, status) if rest]
    more = f"more in {path}; " if path else ""
    lines.append(f"{more}`{options.on_track('autoresearch loop')}` with the same options goes on")
    return lines


def _promotion(verdict: Verdict) -> str:
    lines = f"+{verdict.lines_added} −{verdict.lines_removed} lines"
    what = cut(one_line(verdict.description), 60)
    return f"{promotion_event(verdict)}, {lines}: {what}"


def _to_look_at(account: Account, status: Status) -> Sequence[tuple[str, str]]:
    """What a person should look at, by heads; "" where there is nothing."""
    outcomes = Counter(str(verdict.outcome) for group in account.failures for verdict in group)
    failed = ", ".join(f"{times} {outcome}" for outcome, times in outcomes.most_common())
    fruitless = account.fruitless
    rounds = f"{counted(len(fruitless), 'round')}, the last one: {one_line(fruitless[-1].trouble)}" if fruitless else ""
    refused = account.refused
    files = f"{counted(len(refused), 'file')}, the last one: {refused[-1]}" if refused else ""
    troubles = f"{len(account.troubles)}, the last one: {one_line(account.troubles[-1])}" if account.troubles else ""
    return [
        ("near misses", some([_near(verdict) for verdict in (*account.outrun, *account.near)], 3)),
        ("without a score", failed),
        ("brought nothing", cut(rounds, 200)),
        ("refused", cut(files, 200)),
        ("trouble", cut(troubles, 200)),
        ("queue", queue_words(status.waiting) if status.waiting else ""),
    ]


def _near(verdict: Verdict) -> str:
    return f"{verdict.experiment} ({verdict.delta or 0:+.4f}{p_value(verdict)})"
