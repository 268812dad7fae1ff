"""The words of a session: its header, the message of a failure, the table at the end."""

import os

from pytest_autoresearch.core.records import Outcome, Record, Verdict
from pytest_autoresearch.core.text import counted, duration, escaped, one_line, quoted
from pytest_autoresearch.judging.summary import SessionHeader, SessionSummary
from pytest_autoresearch.judging.words import baseline_of, verdict_line

LETTERS = {
    Outcome.KEPT: "K",
    Outcome.DISCARDED: "D",
    Outcome.CRASHED: "C",
    Outcome.OUT_OF_MEMORY: "M",
    Outcome.DIVERGED: "V",
    Outcome.TIMED_OUT: "T",
    Outcome.DISQUALIFIED: "Q",
    Outcome.TRIED: "t",
}
"""The letters that -q prints."""


def header_lines(header: SessionHeader, runs: bool = True) -> list[str]:
    """The track, the platform and the record by which experiments are judged. `runs`: the session will judge some."""
    track, record = header.track, header.record
    lines = [
        f"autoresearch: track {track.name} on {header.device} ({header.threads} threads), "
        f"{track.budget} a run, {counted(track.seeds, 'seed')}, {header.isolation}"
    ]
    if record is None:
        lines.append(f"autoresearch: corpus {track.corpus} is not in the cache" + ": it will be fetched first" * runs)
    elif header.records_anew and runs:
        lines.append(f"autoresearch: {header.program} is recorded anew first")
    elif len(record.scores) < track.seeds:
        lacking = "budget" if "@" in track.name else "platform"
        if record.scores:
            lacking = f"platform for seed {len(record.scores)}"
        lines.append(f"autoresearch: no record for this {lacking}" + f": {header.program} is recorded first" * runs)
    else:
        lines.append(f"autoresearch: baseline {record.val_bpb:.4f} val_bpb, recorded {record.recorded_at}")
    if runs and (header.provisional or not header.promotes):
        lines.append(f"autoresearch: nothing will be promoted: {header.provisional or '--ar-no-promote'}")
    return lines


def short_line(verdict: Verdict) -> str:
    """The verdict's line without the outcome, which pytest's short summary prints itself."""
    return verdict_line(verdict).removeprefix(verdict.outcome.upper()).lstrip()


def failure_message(verdict: Verdict) -> str:
    """The text under FAILURES: the verdict's line with the scores of each seed, and the candidate's own words, quoted.

    Only lines without the mark of a quotation are the tool's.
    """
    lines = [verdict_line(verdict)]
    if len(verdict.scores) > 1 and verdict.delta is not None:
        pairs = zip(verdict.scores, verdict.baseline_scores, strict=False)
        lines[0] += "; per seed " + ", ".join(f"{score:.4f} against {record:.4f}" for score, record in pairs)
    lines += quoted(verdict.detail)
    if verdict.runs and verdict.outcome is not Outcome.DISCARDED:
        run = "" if verdict.constants else f"/seed-{verdict.runs - 1}/log.txt"
        lines.append(f"see {verdict.evidence}{run}")
    return "\n".join(lines)


def summary_lines(summary: SessionSummary) -> list[str]:
    """The table of verdicts, the promotion and the notes; no lines if nothing was judged."""
    judged = [verdict for _, verdict in summary.judged]
    lines = table(summary).splitlines() if judged else []
    if summary.promotion:
        verdict, before, after = summary.promotion.verdict, summary.promotion.before, summary.promotion.after
        lines.append(
            f"promoted {verdict.experiment}: {os.path.relpath(summary.promotion.path)} "
            f"{before:.4f} → {after:.4f} val_bpb ({after / before - 1:+.2%})"
        )
        others = [v.experiment for v in judged if v.status == "pass" and not v.provisional]
        if others:
            lines.append(f"kept but outrun: {', '.join(others)}; the next session tries them on the new baseline")
    if replayed := sum(verdict.replayed for verdict in judged):
        lines.append(f"replayed, not trained again: {replayed} (--ar-rerun trains again)")
    lines += summary.notes if judged or summary.promotion else []
    if summary.stopped:
        lines.append(stopped_line(summary))
    if summary.interrupted and judged:
        verdicts = f"{len(judged)} verdicts are" if len(judged) > 1 else "1 verdict is"
        lines.append(f"interrupted: {verdicts} in the ledger; the same command continues with the rest")
    return [escaped(line) for line in lines]


def stopped_line(summary: SessionSummary) -> str:
    """After how many verdicts of its own the session stopped, why, and what it left."""
    own = sum(not (verdict.replayed or verdict.outcome is Outcome.TRIED) for _, verdict in summary.judged)
    rest = f"{summary.unjudged} experiments; the next session judges them"
    if summary.unjudged == 1:
        rest = "1 experiment; the next session judges it"
    return f"stopped after {counted(own, 'verdict')}: {summary.stopped}; left unjudged: {rest}"


def table(summary: SessionSummary) -> str:
    """All verdicts of a session, best first, below the baseline; then the trials of sweeps, which are no verdicts."""
    from tabulate import tabulate

    rows: list[list[str]] = []
    if summary.record is not None:
        rows.append(_baseline_row(summary.record))
    rows += [_row(name, verdict) for name, verdict in sorted(summary.judged, key=lambda each: _rank(each[1]))]
    headers = [f"track {summary.track}", "val_bpb", "against", "delta", "p", "runs", "time", "memory", "lines"]
    headers += ["verdict"]
    align = ["left", *["right"] * 8, "left"]
    if any(verdict.constants for _, verdict in summary.judged):
        headers += ["constants"]
        align += ["left"]
    rows = [row[: len(headers)] for row in rows]
    return tabulate(rows, headers=headers, tablefmt="simple", colalign=align, disable_numparse=True)


def _rank(verdict: Verdict) -> tuple[bool, bool, float]:
    return verdict.outcome is Outcome.TRIED, verdict.delta is None, verdict.delta or 0.0


def _baseline_row(record: Record) -> list[str]:
    stats, memory = record.stats, f"{record.stats.peak_memory_gb:.1f} GB"
    time = duration(sum(stats.seconds))
    return ["baseline", f"{record.val_bpb:.4f}", "", "", "", str(len(stats)), time, memory, "", "", ""]


def _row(name: str, verdict: Verdict) -> list[str]:
    against, memory = None if verdict.delta is None else baseline_of(verdict), verdict.stats.peak_memory_gb
    growth = "" if verdict.memory_growth is None else f" {round(verdict.memory_growth, 2) + 0.0:+.0%}"
    return [
        escaped(name),
        "" if verdict.val_bpb is None else f"{verdict.val_bpb:.4f}",
        "" if against is None else f"{against:.4f}",
        "" if verdict.delta is None else f"{verdict.delta:+.4f}",
        "" if verdict.p_value is None else f"{verdict.p_value:.2g}",
        str(verdict.runs),
        duration(sum(verdict.stats.seconds)),
        f"{memory:.1f} GB{growth}" if memory else "",
        f"+{verdict.lines_added} −{verdict.lines_removed}" if verdict.runs else "",
        verdict.outcome.upper() + " (quick look)" * verdict.provisional,
        one_line(verdict.constants),
    ]
