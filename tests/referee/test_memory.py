"""Memory that a track does not allow, and who goes first where the machine has none left."""

from collections.abc import Callable

import pytest
from tiny_project import TinyProject, program, write

pytestmark = pytest.mark.usefixtures("recorded")

Outcomes = Callable[[pytest.RunResult], dict[str, str]]


def test_memory_that_the_track_does_not_allow(project: TinyProject, outcomes: Outcomes) -> None:
    project.track('limit = "60 s"', 'limit = "60 s"\nmemory = "2 GB"')
    write(project.path / "experiments/asks.py", program("torch.empty(31 * 10**9, dtype=torch.uint8)"))
    shared = (
        "import mmap\nheld = mmap.mmap(-1, 3 * 10**9)\nfor i in range(0, len(held), 4096): held[i] = 1\ntime.sleep(5)"
    )
    write(project.path / "experiments/shares.py", program(top=shared))  # what RLIMIT_DATA does not see
    said = outcomes(project.run("--ar-seeds", "1", "-v"))
    remedy = "2 GB allowed in all; lower the batch size or the model"
    assert said["asks"].startswith(f"OUT OF MEMORY (quick look) 31 GB asked, {remedy}")
    assert said["shares"].startswith("OUT OF MEMORY (quick look) ")
    assert "GB used, 2 GB allowed; lower the batch size or the model" in said["shares"]
    assert {row["status"] for row in project.rows} == {"keep", "crash"}


def test_a_candidate_is_the_first_to_go(project: TinyProject) -> None:
    show = "print('adj', open('/proc/self/oom_score_adj').read())"
    write(project.path / "experiments/shows.py", program(top=show))
    project.run("--ar-seeds", "1")
    assert "adj 1000" in next(project.path.glob("results/cpu/shows-*/seed-0/log.txt")).read_text()
