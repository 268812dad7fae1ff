"""A run in words while it goes on: what stands before, in and after its bar."""

import math

FORMAT = "{desc} {bar:12} {percentage:3.0f}%{postfix}"
"""A line of tqdm's."""
BAR_WIDTH = 20
"""Columns of the bar, the percentage and what parts them from the rest."""


def run_details(stage: str, loss: float | None, seconds_left: float | None, rate: float = 0.0) -> list[str]:
    """What stands after the bar, the most wanted first: `loss 2.314`, `6 s left`, `21k tokens/s`.

    What is not known is None or NaN, and a rate (tokens per second) of 0.
    """
    parts = []
    if loss is not None and not math.isnan(loss):
        parts.append(f"loss {loss:.3f}")
    if stage == "training" and seconds_left is not None and not math.isnan(seconds_left):
        parts.append(f"{seconds_left:.0f} s left")
    if rate:
        parts.append(f"{rate / 1000:.3g}k tokens/s")
    return parts
