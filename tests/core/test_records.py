"""Reading what others have written: every field has its type, or the whole is refused."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import pytest
from fakes import result, verdict_of

from pytest_autoresearch.core.records import Record, RunStats, Verdict

RECORD = Record("p", "c", {"device": "cpu"}, RunStats.of([result(0, 2.0), result(1, 2.1)]), "2026-01-01")
READ: list[tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = [
    (Record.from_dict, asdict(RECORD)),
    (Verdict.from_dict, verdict_of(delta=-0.1, p_value=0.2).as_dict()),
]


def broken(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document with one field of another type, once for each field."""
    for name, value in document.items():
        if isinstance(value, dict):
            for inner, changed in broken(value):
                yield f"{name}.{inner}", document | {name: changed}
        for wrong in ({"a": [3]}, [[["x"]]], "3" if not isinstance(value, str) else 3):
            yield name, document | {name: wrong}


@pytest.mark.parametrize(("read", "document"), READ)
def test_a_field_of_another_type_is_refused(read: Callable[[dict[str, Any]], object], document: dict[str, Any]) -> None:
    assert read(deepcopy(document))
    for name, changed in broken(document):
        with pytest.raises((TypeError, ValueError, KeyError)):
            pytest.fail(f"{name}: {read(changed)}")


def test_a_list_that_lacks_a_run_is_refused() -> None:
    document = asdict(RECORD)
    document["stats"]["isolation"] = ["process"]
    with pytest.raises(ValueError, match="an entry for each run"):
        Record.from_dict(document)
