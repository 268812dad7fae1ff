"""The events of a loop in words, one line each. What agents and experiments wrote is safe to show."""

from collections.abc import Sequence
from statistics import fmean

from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import counted, cut, duration, one_line
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.loop.status import Finished

NAMES = 5
"""The most names that a line gives one by one."""
REASON = 200
"""The most characters of an agent's words, or of a reason, in a line."""


def verdict_event(verdict: Verdict) -> str:
    """The line of a verdict: `rmsnorm DISCARDED 2.1440 against 2.1426 on seed 0 (+0.0014, p 0.57) …`"""
    return f"{one_line(verdict.experiment)} {verdict_line(verdict)}"


def promotion_event(verdict: Verdict) -> str:
    """The line of a promotion: `promoted rmsnorm: val_bpb 2.1591 -> 2.1003 (-0.0588, p 1e-07)`."""
    return f"promoted {gain_of(verdict)}"


def gain_of(verdict: Verdict) -> str:
    """What a promotion changed: `rmsnorm: val_bpb 2.1591 -> 2.1003 (-0.0588, p 1e-07)`."""
    return f"{one_line(verdict.experiment)}: {change_of(verdict)}"


def change_of(verdict: Verdict) -> str:
    """The score of the baseline that it met, and its own: `val_bpb 2.1591 -> 2.1003 (-0.0588, p 1e-07)`."""
    before, after = fmean(verdict.baseline_scores or [0.0]), verdict.val_bpb or 0.0
    return f"val_bpb {before:.4f} -> {after:.4f} ({after - before:+.4f}{p_value(verdict)})"


def p_value(verdict: Verdict) -> str:
    """`, p 1e-07`, or "" if there is none."""
    return "" if verdict.p_value is None else f", p {verdict.p_value:.2g}"


def round_line(finished: Finished, wait: float = 0) -> str:
    """The line of a round: what it brought, what was refused, or its trouble; how long it took and what it cost.

    `wait` are the seconds until an agent is asked again, 0 for at once. How long a killed loop's round took is unknown.
    """
    head = f"round {finished.number}" + (f", to mend {one_line(finished.fixes)}" if finished.fixes else "")
    took = duration(finished.seconds) + (f", {dollars(finished.dollars)}" if finished.dollars else "")
    trouble = cut(one_line(finished.trouble), REASON)
    parts = [f"brought {some(finished.files) or 'nothing'}" + f" in {took}" * (finished.seconds > 0)]
    if trouble:
        parts = [*parts, trouble] if finished.files else [f"{trouble} (after {took})"]
    if finished.refused and (finished.files or not trouble):  # else the trouble tells of them
        parts.append(refused_words(finished))
    if wait:
        parts.append(f"asks again in {duration(wait)}")
    return f"{head}: {'; '.join(parts)}"


def refused_words(finished: Finished) -> str:
    """The files that preflight refused: `refused experiments/a.py: not UTF-8; and 2 more files`."""
    more = len(finished.refused) - 1
    return f"refused {refusal(*finished.refused[0])}" + (f"; and {counted(more, 'more file')}" if more else "")


def refusal(name: str, reason: str) -> str:
    """Why a file was refused, in a line that names it."""
    return cut(one_line(reason if name in reason else f"{name}: {reason}"), REASON)


def some(names: Sequence[str], at_most: int = NAMES) -> str:
    """The first names, and how many others there are: `rope, muon and 3 more`."""
    more = len(names) - at_most
    return ", ".join(map(one_line, names[:at_most])) + f" and {more} more" * (more > 0)


def queue_words(waiting: Sequence[str], at_most: int = NAMES) -> str:
    """What waits: `3 wait: rope, muon, wider`, or `nothing waits`."""
    if not waiting:
        return "nothing waits"
    return f"{len(waiting)} wait{'s' * (len(waiting) == 1)}: {some(waiting, at_most)}"


def dollars(amount: float) -> str:
    """`$0.12`, or `$0.0004` where cents would say nothing."""
    return f"${amount:.4f}" if 0 < amount < 0.01 else f"${amount:.2f}"
