"""What runs, baselines and experiments leave behind as values."""

from enum import StrEnum


class Outcome(StrEnum):
    """What an experiment can earn."""

    KEPT = "kept"
    DISCARDED = "discarded"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    TIMED_OUT = "timed out"
    DISQUALIFIED = "disqualified"
    PRUNED = "pruned"
    UNCHANGED = "unchanged"
