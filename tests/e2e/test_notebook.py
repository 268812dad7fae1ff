"""The notebook in examples/ runs from top to bottom, in a copy of the project, on a CPU and a small budget."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from tiny_project import TRACK, write

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples/colab.ipynb"
PLACES = {"BUDGET": '"20 steps"', "TRIALS": "2"}
"""What the test sets at the top of the notebook."""


def read() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_cells_are_short_and_have_no_output() -> None:
    notebook = read()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    for cell in notebook.cells:
        assert len(cell.source.splitlines()) <= 10, cell.source
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.fixture
def copy(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project under git, with the shipped baseline on a tiny text; no GPU, no Colab."""
    folder = tmp_path / "project"
    write(folder / "pytest.ini", "[pytest]\naddopts = --ar-sandbox off -p no:cacheprovider\n")
    shutil.copytree(ROOT / "baseline/cpu", folder / "baseline/cpu")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name in ("label_smoothing", "half_batch"):
        write(folder / f"experiments/{name}.py", (ROOT / f"experiments/{name}.py").read_text())
    track = re.sub("sequence_length = .*", "sequence_length = 32", TRACK).replace("seeds = 2", "seeds = 1")
    write(folder / "baseline/cpu/track.toml", track)
    write(folder / "baseline/cpu/baseline.json", '{"records": {}}\n')
    for number in range(60):
        write(folder / f"text/{number}.txt", f"A sentence, and another one, number {number} of many.\n" * 40)
    write(folder / ".gitignore", "results/\nresults.tsv\n.lock\n")
    bare = tmp_path / "bin"  # without nvidia-smi, and `pytest` is this environment's
    bare.mkdir()
    for name in ("pytest", "autoresearch"):
        module = {"pytest": "pytest", "autoresearch": "pytest_autoresearch.cli"}[name]
        write(bare / name, f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n').chmod(0o755)
    for name in ("git", "sh", "bash", "cat"):
        (bare / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(bare))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def test_the_notebook_runs(copy: Path) -> None:
    notebook = read()
    for name, value in PLACES.items():
        source = re.sub(rf"(?m)^{name} = \S+", f"{name} = {value}", notebook.cells[1].source)
        assert source != notebook.cells[1].source
        notebook.cells[1].source = source
    before = {
        path: path.stat().st_mtime_ns
        for folder in ("baseline", "experiments", "examples")
        for path in (ROOT / folder).rglob("*")
    }
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(copy / "examples")}}
    ).execute()
    printed = [
        re.sub(r"\x1b\[[\d;]*[mK]|\r", "", "".join(output.get("text", "") for output in cell.outputs))
        for cell in notebook.cells
        if cell.cell_type == "code" and "!" in cell.source
    ]
    assert not any("Traceback" in text for text in printed)
    _, _, example, search, history, diff, report = printed
    assert "20 steps a run" in example
    assert "autoresearch: baseline recorded: val_bpb" in example
    assert "label_smoothing.py" in example
    assert search.count(" TRIED ") >= 2
    assert "[02]" in search
    for name in ("label_smoothing", "search_cpu[02]"):
        assert name in history
    assert diff.startswith("diff --git ") == ("promoted search_cpu" in search)
    changed = [line for line in diff.splitlines() if re.match(r"[-+] *\w", line)]
    assert all(re.match(r"[-+][A-Z_]+ = ", line) for line in changed), "only constants"
    assert report.startswith('# Track "cpu": brief')
    assert before == {path: path.stat().st_mtime_ns for path in before}, "nothing in the checkout was written"
