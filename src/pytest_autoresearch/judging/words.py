"""A verdict in words, in one line: what was compared, by how much the scores differ, and why it ended so."""

from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.core.text import one_line


def verdict_line(verdict: Verdict) -> str:
    """The outcome, the comparison and the reason: `DISCARDED 2.1440 against 2.1426 on seed 0 (+0.0014, p 0.57) …`"""
    words = [verdict.outcome.upper()]
    asides = ["quick look"] * verdict.provisional + ["replayed"] * verdict.replayed
    if verdict.same_as:
        asides.append(f"same program as {verdict.same_as}")
    if asides:
        words.append(f"({', '.join(asides)})")
    if verdict.val_bpb is not None:
        words.append(f"{verdict.val_bpb:.4f}")
    if verdict.outcome is Outcome.TRIED:
        words.append(f"({verdict.delta or 0:+.4f})")  # the constants matter more, and a terminal has few columns
    elif verdict.delta is not None and (against := baseline_of(verdict)) is not None:
        p_value = "" if verdict.p_value is None else f", p {verdict.p_value:.2g}"
        words.append(f"against {against:.4f}{seeds_of(verdict)} ({verdict.delta:+.4f}{p_value})")
    reason = verdict.reason
    if verdict.outcome in (Outcome.KEPT, Outcome.TRIED):
        reason = f"as {reason}" if verdict.simplifies and verdict.outcome is Outcome.KEPT else ""
    words.append(": ".join(part for part in (verdict.constants, reason) if part))
    notes = "; ".join(note for note in (verdict.note, verdict.tried_again) if note)
    return one_line(" ".join(filter(None, words)) + f"; note: {notes}" * bool(notes))


def baseline_of(verdict: Verdict) -> float | None:
    """The baseline's mean val_bpb over the seeds that the experiment was trained with."""
    compared = verdict.baseline_scores[: len(verdict.scores)]
    return sum(compared) / len(compared) if compared else None


def seeds_of(verdict: Verdict) -> str:
    """` on seed 0` or ` on seeds 0 to 1`; "" if it was all of them."""
    count = len(verdict.scores)
    if count >= len(verdict.baseline_scores):
        return ""
    return " on seed 0" if count == 1 else f" on seeds 0 to {count - 1}"
