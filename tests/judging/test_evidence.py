"""The evidence folder: verdicts come back as they were, from nowhere that a program can write."""

import json
import os
from dataclasses import replace
from pathlib import Path

from fakes import verdict_of
from tiny_project import write

from pytest_autoresearch.judging.evidence import Evidence
from pytest_autoresearch.programs.compare import sha256

VERDICT = verdict_of()


def test_verdicts_come_back_as_they_were_and_broken_evidence_is_passed_over(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.save(VERDICT)
    assert evidence.verdicts("cpu", "norms/rmsnorm") == [VERDICT]
    assert evidence.verdicts("cpu", "rmsnorm") == []
    path = tmp_path / VERDICT.evidence / "verdict-key.json"
    for damage in ("", "{}", json.dumps({**json.loads(path.read_text()), "outcome": "wonderful"})):
        path.write_text(damage)
        assert evidence.verdicts("cpu", "norms/rmsnorm") == []


def test_verdicts_are_read_from_nowhere_a_program_can_write(tmp_path: Path) -> None:
    """What it leaves in its own files, and a pipe on which a reader would wait for ever."""
    evidence = Evidence(tmp_path)
    folder = tmp_path / "results/cpu/idea-1234567"
    forged = replace(VERDICT, status="", evidence="results/cpu/idea-1234567/seed-0/saved", key="0")
    text = json.dumps(forged.as_dict())
    for place in ("seed-0/saved", "seed-0", "seed-0/saved/cpu/idea-1234567"):
        write(folder / place / "verdict-0.json", text)
    write(folder / "verdict-0.json", text)  # names another place as its own
    write(folder / "verdict-1.json", json.dumps(replace(forged, evidence="results/cpu/idea-1234567").as_dict()))
    os.mkfifo(folder / "verdict-2.json")
    (folder / "verdict-3.json").symlink_to(folder / "seed-0/saved/verdict-0.json")
    assert evidence.unlogged("cpu") == []
    assert evidence.verdicts("cpu", VERDICT.experiment) == []
    nested = evidence.of("cpu", "idea-1234567/seed-0/saved/x", "f" * 64)
    assert nested.parent == folder.parent


def test_a_verdict_is_found_by_its_key_whoever_earned_it(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    assert evidence.find("cpu", "key") == []
    later = replace(VERDICT, experiment="later", evidence="results/cpu/later-1234567", finished_at="2027-01-01")
    for verdict in (later, VERDICT):
        evidence.save(verdict)
    assert evidence.find("cpu", "key")[0] == later
    assert evidence.find("cuda", "key") == []
    assert evidence.find("cpu", "*") == []


def test_the_nats_of_a_programs_rows_are_found_by_its_hash(tmp_path: Path) -> None:
    evidence, source = Evidence(tmp_path), "x = 1\n"
    folder = evidence.of("cpu", "promoted", sha256(source)) / "seed-1"
    write(folder / "program.py", source)
    for text in ("", "[]", "{}", '{"row_nats": []}', '{"row_nats": ["many"]}'):
        write(folder / "result.json", text)
        assert evidence.row_nats("cpu", sha256(source), 1) is None
    write(folder / "result.json", '{"row_nats": [1.5, 2]}')
    assert evidence.row_nats("cpu", sha256(source), 1) == [1.5, 2.0]
    assert evidence.row_nats("cpu", sha256(source), 0) is None
    assert evidence.row_nats("cuda", sha256(source), 1) is None
    write(folder / "program.py", "another")
    assert evidence.row_nats("cpu", sha256(source), 1) is None


def test_a_source_is_found_by_its_hash(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    source = "x = 1\n"
    write(evidence.of("cpu", "a", sha256(source)) / "seed-0/program.py", "another that begins alike")
    assert evidence.source(sha256(source)) is None
    write(evidence.of("cpu", "b", sha256(source)) / "seed-1/program.py", source)
    assert evidence.source(sha256(source)) == source
