"""README, CONTRIBUTING, CHANGELOG, program.md, AGENTS.md and docs/ name only what exists, and name all of it.

Each check says how many things it has to find at least, so that none of them passes because a pattern matches nothing.
"""

import argparse
import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_autoresearch import Run, cli
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.judging.ledger import COLUMNS, STATUS
from pytest_autoresearch.plugin import hooks, hookspecs
from pytest_autoresearch.referee.sandbox import FAMILIES_LET_IN, LET_IN

ROOT = Path(__file__).parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "program.md", "AGENTS.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ROOT / "src/pytest_autoresearch"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
MADE_BY_READERS = {
    "experiments/my_idea.py",
    "prompt.md",
    "brief.md",
    "ideas.md",
    "idea.txt",
    "experiments/silu.py",
    "experiments/wider_hidden.py",
    "baseline/cuda-12gb",
}
"""Files that a reader makes while following a page."""


class Block(NamedTuple):
    """A fenced block: `where` names page and line, `title` the file that a reader puts it into."""

    where: str
    language: str
    title: str
    text: str


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def blocks(*languages: str) -> list[Block]:
    """All blocks of some languages."""
    return [
        Block(f"{page.name}:{text_of(page).count(chr(10), 0, match.start()) + 1}", match[1], match[2] or "", match[3])
        for page in PAGES
        for match in FENCE.finditer(text_of(page))
        if match[1] in languages
    ]


def code_spans() -> Iterator[tuple[str, str]]:
    """(page, code) of each `code` in running text."""
    for page in PAGES:
        for code in re.findall(r"`([^`]+)`", FENCE.sub("", text_of(page))):
            yield page.name, " ".join(code.split())


def shell_commands() -> Iterator[tuple[str, str]]:
    """(page, line) of each command in a block or in running text."""
    for block in blocks("sh"):
        for line in re.sub(r"<<'(\w+)'\n.*?^\1$", "", block.text, flags=re.MULTILINE | re.DOTALL).splitlines():
            yield block.where, line.partition(" #")[0].strip()
    yield from code_spans()


def test_every_fence_is_closed_and_says_its_language() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", text_of(page), re.MULTILINE)
        assert len(fences) % 2 == 0, page.name
        assert all(fences[::2]), f"{page.name}: a block without a language"
        assert not any(fences[1::2]), page.name
    assert len(blocks("sh", "text", "python", "toml")) >= 40


def test_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) < 200


# -- code --


def test_python_blocks_parse_and_import_what_exists() -> None:
    found = blocks("python")
    assert len(found) >= 12
    imported = 0
    for block in found:
        tree = ast.parse(block.text, block.where)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytest_autoresearch"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{block.where}: {ast.unparse(node)}"
                    imported += 1
    assert imported >= 3


def test_overlays_are_experiments_and_every_assertion_holds(tmp_path: Path) -> None:
    """What a page claims of a function is true, and what it calls an overlay can be read as one."""
    from pytest_autoresearch.programs.experiment import read_experiment

    overlays = asserted = 0
    for number, block in enumerate(blocks("python")):
        if re.search(r"^from baseline import \*", block.text, re.MULTILINE):
            path = tmp_path / f"e{number}.py"
            path.write_text(block.text, encoding="utf-8")
            assert read_experiment(path, tmp_path).is_overlay, block.where
            overlays += 1
        elif re.search(r"^assert ", block.text, re.MULTILINE):
            exec(compile(block.text, block.where, "exec"), {})
            asserted += 1
    assert overlays >= 5
    assert asserted >= 1


def test_programs_use_only_what_run_has() -> None:
    """`run.x` in programs, and in running text."""
    used = {
        (block.where, node.attr)
        for block in blocks("python")
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "run"
    }
    for page, code in code_spans():
        used |= {(page, name) for name in re.findall(r"^run\.(\w+)", code) if name != "py"}
    public = {name for name in vars(Run) if not name.startswith("_")}
    assert {name for _, name in used} == public, "exactly these, and all of them"
    assert len(used) >= 15


def test_toml_blocks_are_tracks_of_known_keys(tmp_path: Path) -> None:
    found = blocks("toml")
    assert len(found) >= 2
    for block in found:
        (tmp_path / "track.toml").write_text(block.text, encoding="utf-8")
        read_track(tmp_path)


def test_the_shipped_track_is_shown_as_it_is() -> None:
    assert text_of(ROOT / "baseline/cpu/track.toml") in text_of(ROOT / "docs/tracks-and-budgets.md")


# -- options, commands, files --


class Options:
    """Takes what `pytest_addoption` adds."""

    def __init__(self) -> None:
        self.options: set[str] = set()
        self.settings: set[str] = set()
        hooks.pytest_addoption(self)  # type: ignore[arg-type]

    def getgroup(self, *_: Any, **__: Any) -> "Options":
        return self

    def addoption(self, *names: str, **_: Any) -> None:
        self.options.update(names)

    def addini(self, name: str, *_: Any, **__: Any) -> None:
        self.settings.add(name)


def test_options_and_settings_are_those_of_the_plugin() -> None:
    known = Options()
    named = {(page.name, name) for page in PAGES for name in re.findall(r"--ar-[a-z-]+", text_of(page))}
    assert {name for _, name in named} == known.options, "exactly these, and all of them"
    settings = {name for page in PAGES for name in re.findall(r"\bautoresearch_[a-z_]+", text_of(page))}
    assert settings == known.settings
    assert len(named) >= 15
    table = text_of(ROOT / "docs/verdicts.md").partition("## Options")[2]
    assert all(f"`{name}" in table for name in known.options | known.settings)


def test_environment_variables_are_read_somewhere() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in ROOMS.rglob("*.py"))
    named = {name for page in PAGES for name in re.findall(r"\b(?:AUTORESEARCH|OMP)_[A-Z_]+\b", text_of(page))}
    assert named >= {"AUTORESEARCH_CACHE", "OMP_NUM_THREADS"}
    assert all(name in source for name in named)


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser of the `autoresearch` command."""
    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        caught.append(parser)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", catch)
        with pytest.raises(SystemExit):
            cli.main(["show", "rmsnorm"])
    for part in (caught[0], *subcommands_of(caught[0]).values()):
        part.allow_abbrev = False  # pages say every option in full
    return caught[0]


def subcommands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


COMMAND = r"""(?:\.venv/bin/)?autoresearch +([a-z-](?:"(?:\\.|[^"\\])*"|'[^']*'|[^|&;"'])*)"""
"""A command up to the next one in a pipe or list; what stands between quotation marks may hold anything."""


def test_commands_parse(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `autoresearch …` is understood, and each subcommand is on some page."""
    choices = subcommands_of(parser)
    used = set()
    found = 0
    for where, command in shell_commands():
        match = re.match(COMMAND, command)
        if match and match[1] not in choices:  # in running text a subcommand may stand alone
            found += 1
            try:
                used.add(parser.parse_args(shlex.split(match[1])).command)
            except SystemExit as end:
                if end.code:
                    pytest.fail(f"{where}: {command}: {capsys.readouterr().err}")
    assert used == set(choices)
    assert found >= 15


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {match[1] for _, command in shell_commands() if (match := re.match(r"make ([a-z]+)$", command))}
    assert named == targets - {"clean"}


def test_extras_exist() -> None:
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"(?:pytest-autoresearch|\.)\[(\w+)\]'", text_of(page))}
    assert named
    assert named <= extras.keys()


def is_there(path: str, titles: set[str]) -> bool:
    """Whether a path is in the repository or in the package; a reader may also have made it."""
    if path.rstrip("/") in MADE_BY_READERS | titles:
        return True
    return (ROOT / path).exists() or (ROOMS / path).exists()


def test_files_exist() -> None:
    """Each path in the repository, in commands and in running text, but for what runs write and readers choose."""
    titles = {block.title for block in blocks("python", "toml")}
    titles |= {str(parent) for title in titles for parent in Path(title).parents}
    rooms = "|".join(sorted(path.name for path in ROOMS.iterdir() if path.is_dir() and path.name[0] not in "_."))
    folders = rf"(?:src|docs|tests|baseline|benchmarks|experiments|{rooms})/"
    path = re.compile(rf"(?<![\w/.<>*$-])(?:{folders}[\w./<>*…${{}}-]*|[A-Za-z]+\.(?:md|toml|yml|txt)|Makefile)")
    found = set()
    for where, command in shell_commands():
        for name in path.findall(command):
            if re.search(r"[<*…$]", name) or name in {"track.toml", "log.txt", "program.md"}:
                continue
            found.add(name)
            assert is_there(name, titles), f"{where}: {name}"
    assert len(found) >= 30


def test_modules_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bpytest_autoresearch(?:\.\w+)+", text_of(page))}
    assert len(named) >= 4
    for name in named:
        assert find_spec(name), name


def test_hooks_exist() -> None:
    specified = {name for name in vars(hookspecs) if name.startswith("pytest_autoresearch_")}
    shown = {}
    for block in blocks("python"):
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("pytest_"):
                shown[node.name] = [argument.arg for argument in node.args.args]
    assert shown.keys() == specified
    for name, arguments in shown.items():
        assert arguments == list(inspect.signature(getattr(hookspecs, name)).parameters)


# -- tables that list all of something --


def table_names(page: str, heading: str) -> set[str]:
    """The code in the first column of the tables below a heading."""
    section = text_of(ROOT / "docs" / page).partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_column_of_the_ledger_is_explained() -> None:
    assert table_names("ledger.md", "results.tsv") == {*COLUMNS, "keep", *STATUS.values(), "crash"}


def test_every_key_of_a_track_is_explained(tmp_path: Path) -> None:
    """What `read_track` allows in each section is what the table has."""
    known = set()
    for section in ("", "data", "budget", "evaluation", "verdict"):
        (tmp_path / "track.toml").write_text(f"[{section}]\nnonsense = 1\n" if section else "nonsense = 1\n")
        with pytest.raises(UsageError, match="allowed: ") as caught:
            read_track(tmp_path)
        known.update(str(caught.value).partition("allowed: ")[2].split(", "))
    assert len(known) >= 15
    assert table_names("tracks-and-budgets.md", "track.toml") == known


def test_every_room_is_explained() -> None:
    rooms = {f"{path.name}/" for path in ROOMS.iterdir() if (path / "__init__.py").exists()}
    assert table_names("extending.md", "The rooms") == rooms


# -- links --


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_resolve() -> None:
    found = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", text_of(page))):
            if target.startswith("https://"):
                continue
            name, _, anchor = target.partition("#")
            other = page.parent / name if name else page
            assert other.is_file(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(other), f"{page.name}: {target}"
            found += 1
    assert found >= 25


def test_every_page_is_in_the_navigation() -> None:
    navigation = text_of(ROOT / "mkdocs.yml").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"[\w-]+\.md", navigation)) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_variables_of_a_candidate_are_those_that_it_gets() -> None:
    rest = text_of(ROOT / "docs/trust.md").partition("only these environment variables:")[2]
    passages = rest.partition("stays outside")[0].split("those that begin with")
    names, families = (set(re.findall(r"`([A-Z_]+)`", passage)) for passage in passages)
    assert names == LET_IN
    assert families == set(FAMILIES_LET_IN)
