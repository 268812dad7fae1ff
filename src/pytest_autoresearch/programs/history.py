"""interim"""

from collections.abc import Mapping, Sequence


def changed_lines(old: str, new: str) -> dict[str, list[str]]:
    return {}


def lost_lines(overlay: str, promoted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {}
