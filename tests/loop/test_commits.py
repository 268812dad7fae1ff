"""Commits of promotions, by git itself, in repositories in all kinds of states."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeExecutor
from loop_fakes import kept
from tiny_project import BASELINE, TRACK, write

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import commits, git
from pytest_autoresearch.loop.commits import check_repository, commit_promotion, commit_uncommitted
from pytest_autoresearch.programs.compare import sha256

SUBJECT = "promote {}: val_bpb 2.0000 -> 1.9000 (-0.1000, p 1e-07)"


class Repository:
    """A repository with a project, all of it committed but for `results/`, which is ignored."""

    def __init__(self, top: Path, below: str = ".", baseline: str = "baseline") -> None:
        self.top, self.root = top, (top / below).resolve()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "A Person")
        self.git("config", "user.email", "person@example.org")
        self.context = Context(
            Project(self.root, self.root / "experiments", self.root / baseline),
            Options(),
            FakeExecutor(self.root, [2.0], {}),
        )
        write(self.root / baseline / "cpu/track.toml", TRACK)
        write(self.root / baseline / "cpu/train.py", BASELINE)
        write(self.root / baseline / "cpu/baseline.json", self.records([]))
        write(self.root / "experiments/old.py", "from baseline import *\nWIDTH = 1\n")
        write(self.top / ".gitignore", "results/\nresults.tsv\n")
        write(self.top / "notes.txt", "notes\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=begin")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.top, capture_output=True, text=True, check=True)
        return done.stdout.rstrip()

    @staticmethod
    def records(names: Sequence[str]) -> str:
        past = [{"experiment": name, "changed": {}, "promoted_at": f"at {i}"} for i, name in enumerate(names)]
        return json.dumps({"records": {}, "best": {}, "promotions": past})

    def promote(self, *names: str, **changes: Any) -> Verdict:
        """As if pytest had promoted these, one after the other. Returns the verdict of the last."""
        for name in names:
            path = self.root / f"experiments/{name}.py"
            text = path.read_text() if path.exists() else f"from baseline import *\nWIDTH = {len(name)}\n"
            write(path, text)
            folder = self.context.relative(self.context.evidence.of("cpu", name, sha256(name)))
            values = {
                "experiment_sha": sha256(text),
                "program_sha": sha256(name),
                "evidence": folder,
                "key": sha256(name)[:12],
            }
            verdict = kept(name, **values, **changes)
            self.context.evidence.save(verdict)
            before = [past.experiment for past in self.context.baseline.promotions()]
            write(self.context.baseline.record_path, self.records([*before, name]))
            write(self.context.baseline.path, BASELINE + f"# {name}\n")
        return verdict

    @property
    def last(self) -> tuple[str, list[str]]:
        """The message of the last commit, and its files."""
        files = self.git("-c", "core.quotePath=false", "show", "--name-only", "--format=", "HEAD").splitlines()
        return self.git("log", "-1", "--format=%B"), sorted(files)

    @property
    def status(self) -> list[str]:
        return self.git("-c", "core.quotePath=false", "status", "--porcelain").splitlines()

    @property
    def count(self) -> int:
        return int(self.git("rev-list", "--count", "HEAD"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a repository, with nothing of the user's settings, and a machine whose git waits for nobody."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(commits, "PAUSE", 0.01)
    (tmp_path / "repository").mkdir()
    return tmp_path / "repository"


@pytest.fixture
def repository(home: Path) -> Repository:
    return Repository(home)


FILES = ["baseline/cpu/baseline.json", "baseline/cpu/train.py"]


def test_a_promotion_is_a_commit_of_its_own_files(repository: Repository) -> None:
    verdict = repository.promote("wide")
    check_repository(repository.context)
    assert commit_promotion(repository.context, verdict) == SUBJECT.format("wide")
    assert repository.last == (SUBJECT.format("wide"), [*FILES, "experiments/wide.py"])
    assert repository.status == []
    assert commit_promotion(repository.context, verdict) == ""  # nothing is left
    assert commit_uncommitted(repository.context) == ""
    assert repository.count == 2


def test_in_a_dirty_tree_other_changes_stay_as_they_are(repository: Repository) -> None:
    write(repository.root / "notes.txt", "staged\n")
    repository.git("add", "notes.txt")
    write(repository.root / "staged.txt", "new\n")
    repository.git("add", "staged.txt")
    write(repository.root / "experiments/old.py", "changed\n")
    write(repository.root / "experiments/new.py", "untracked\n")
    commit_promotion(repository.context, repository.promote("wide"))
    assert repository.last[1] == [*FILES, "experiments/wide.py"]
    others = [" M experiments/old.py", "M  notes.txt", "A  staged.txt", "?? experiments/new.py"]
    assert repository.status == others


def test_an_experiment_that_was_staged_in_part_is_committed_as_it_was_judged(repository: Repository) -> None:
    write(repository.root / "experiments/wide.py", "half an idea\n")
    repository.git("add", "experiments/wide.py")
    write(repository.root / "experiments/wide.py", "from baseline import *\nWIDTH = 4\n")
    commit_promotion(repository.context, repository.promote("wide"))
    assert "WIDTH = 4" in repository.git("show", "HEAD:experiments/wide.py")
    assert repository.status == []


def test_an_experiment_that_was_changed_or_removed_since_stays_out(repository: Repository) -> None:
    changed = repository.promote("changed")
    write(repository.root / "experiments/changed.py", "another idea\n")
    commit_promotion(repository.context, changed)
    assert repository.last[1] == FILES
    removed = repository.promote("old")
    (repository.root / "experiments/old.py").unlink()
    commit_promotion(repository.context, removed)
    assert repository.last[1] == FILES
    assert repository.status == [" D experiments/old.py", "?? experiments/changed.py"]


def test_an_ignored_experiment_stays_out(repository: Repository) -> None:
    write(repository.top / ".gitignore", "results/\nresults.tsv\nexperiments/secret*\n")
    repository.git("commit", "--quiet", "--all", "--message=ignore")
    commit_promotion(repository.context, repository.promote("secret_idea"))
    assert repository.last == (SUBJECT.format("secret_idea"), FILES)


@pytest.mark.parametrize("name", ["a b", "-n", ":(top)x", "ünï", "deep/er/idea", "st*r", "qu'ote"])
def test_names_with_odd_characters(repository: Repository, name: str) -> None:
    write(repository.root / "experiments/star.py", "not this one\n")  # which `st*r.py` matches
    repository.git("add", "experiments/star.py")
    repository.git("commit", "--quiet", "--message=star")
    commit_promotion(repository.context, repository.promote(name))
    assert repository.last == (SUBJECT.format(name), [*FILES, f"experiments/{name}.py"])


def test_a_name_that_does_not_print_is_found(repository: Repository) -> None:
    path = write(repository.root / "experiments/tab\there.py", "from baseline import *\nWIDTH = 4\n")
    write(repository.context.baseline.record_path, repository.records([r"tab\there"]))
    shown = kept(r"tab\there", experiment_sha=sha256(path.read_text()))
    commit_promotion(repository.context, shown)
    assert r'"experiments/tab\there.py"' in repository.git("show", "--name-only", "--format=", "HEAD")


def test_a_project_below_the_repository_and_a_baseline_elsewhere(home: Path) -> None:
    repository = Repository(home, below="models/small", baseline="../tracks")
    check_repository(repository.context)
    commit_promotion(repository.context, repository.promote("wide"))
    assert repository.last[1] == [
        "models/small/experiments/wide.py",
        "models/tracks/cpu/baseline.json",
        "models/tracks/cpu/train.py",
    ]
    assert repository.status == []
    assert commit_uncommitted(repository.context) == ""


def test_a_repository_without_a_commit(home: Path) -> None:
    repository = Repository(home)
    repository.git("update-ref", "-d", "HEAD")
    check_repository(repository.context)
    commit_promotion(repository.context, repository.promote("wide"))
    assert repository.count == 1
    assert "experiments/wide.py" in repository.last[1]


def test_a_detached_head(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--detach")
    commit_promotion(repository.context, repository.promote("wide"))
    assert repository.last[0] == SUBJECT.format("wide")
    assert repository.git("rev-parse", "HEAD~1") == repository.git("rev-parse", "main")


# -- what a kill or a refusal left --


def test_a_promotion_whose_commit_was_prevented_is_committed_later(repository: Repository) -> None:
    repository.promote("wide")
    assert commit_uncommitted(repository.context) == SUBJECT.format("wide")
    assert repository.last[1] == [*FILES, "experiments/wide.py"]


def test_the_next_commit_takes_earlier_promotions_with_it_and_says_so(repository: Repository) -> None:
    verdict = repository.promote("wide", "deep")
    assert commit_promotion(repository.context, verdict) == SUBJECT.format("deep")
    message, files = repository.last
    assert message == f"{SUBJECT.format('deep')}\n\n{SUBJECT.format('wide')}"
    assert files == [*FILES, "experiments/deep.py", "experiments/wide.py"]


def test_a_promotion_without_evidence_is_committed_by_its_name(repository: Repository) -> None:
    write(repository.context.baseline.record_path, repository.records(["gone"]))
    assert commit_uncommitted(repository.context) == "promote gone"
    assert repository.last == ("promote gone", FILES[:1])


def test_a_record_alone_is_no_promotion(repository: Repository) -> None:
    path = repository.context.baseline.record_path
    path.write_text(path.read_text() + "\n")
    assert commit_uncommitted(repository.context) == ""
    assert repository.count == 1


# -- what git refuses --


def hook(repository: Repository, name: str, text: str) -> None:
    path = write(repository.top / ".git/hooks" / name, f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def refused(repository: Repository, verdict: Verdict) -> UsageError:
    """The error of a commit, which leaves everything as it was."""
    before = repository.status
    with pytest.raises(UsageError) as caught:
        commit_promotion(repository.context, verdict)
    assert repository.status == before
    return caught.value


def test_a_hook_that_refuses(repository: Repository) -> None:
    hook(repository, "pre-commit", "echo 'lint: two spaces are missing' >&2; exit 1")
    verdict = repository.promote("wide")
    assert str(refused(repository, verdict)) == "git commit: lint: two spaces are missing"
    hook(repository, "pre-commit", "exit 1")
    assert "a hook may have refused" in str(refused(repository, verdict))
    hook(repository, "pre-commit", "exit 0")
    assert commit_promotion(repository.context, verdict)


def test_a_hook_that_asks_has_no_terminal_and_one_that_hangs_is_ended(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(repository, "pre-commit", "read answer && exit 0; (: < /dev/tty) 2>/dev/null && exit 0; echo nobody; exit 1")
    assert "nobody" in str(refused(repository, repository.promote("wide")))
    hook(repository, "pre-commit", "sleep 600")
    monkeypatch.setattr(git, "TIMEOUT", 1.0)
    with pytest.raises(UsageError, match=r"git commit: no end after 1 s"):
        commit_promotion(repository.context, repository.promote("wide"))


def test_a_merge_in_progress(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "-b", "other")
    write(repository.root / "other.txt", "other\n")
    repository.git("add", "other.txt")
    repository.git("commit", "--quiet", "--message=other")
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-commit", "--no-ff", "other")
    error = refused(repository, repository.promote("wide"))
    assert "merge" in str(error)
    repository.git("commit", "--quiet", "--message=merged")
    assert commit_uncommitted(repository.context) == SUBJECT.format("wide")


def test_another_process_that_holds_the_index(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = repository.promote("wide")
    lock = write(repository.top / ".git/index.lock", "")
    assert "index.lock" in str(refused(repository, verdict))
    pauses: list[float] = []

    def finish(seconds: float) -> None:
        pauses.append(seconds)
        lock.unlink()

    monkeypatch.setattr(commits, "sleep", finish)
    assert commit_promotion(repository.context, verdict) == SUBJECT.format("wide")
    assert len(pauses) == 1


def test_no_name_to_commit_under(repository: Repository) -> None:
    repository.git("config", "user.useConfigOnly", "true")
    repository.git("config", "--unset", "user.name")
    repository.git("config", "--unset", "user.email")
    with pytest.raises(UsageError, match=r"--commit: git has no name to commit under .*set user.name and user.email"):
        check_repository(repository.context)
    with pytest.raises(UsageError, match="git commit: "):
        commit_promotion(repository.context, repository.promote("wide"))


def test_where_there_is_nothing_to_commit_to(home: Path, tmp_path: Path) -> None:
    repository = Repository(home)
    outside = Context(
        Project(tmp_path / "else", tmp_path / "else/experiments", repository.root / "baseline"),
        Options(),
        repository.context.executor,
    )
    (tmp_path / "else").mkdir()
    with pytest.raises(UsageError, match="is not in a git repository"):
        check_repository(outside)
    elsewhere = Context(
        Project(repository.root, repository.root / "experiments", write(tmp_path / "b/cpu/x", "").parents[1]),
        Options(track="cpu"),
        repository.context.executor,
    )
    write(tmp_path / "b/cpu/track.toml", TRACK)
    with pytest.raises(UsageError, match="is outside repo"):
        check_repository(elsewhere)


def test_an_ignored_baseline(home: Path) -> None:
    repository = Repository(home)
    write(repository.top / ".gitignore", "baseline/\n")
    repository.git("rm", "--quiet", "--cached", "-r", "baseline")
    repository.git("commit", "--quiet", "--all", "--message=ignore")
    with pytest.raises(UsageError, match=r"git ignores baseline/cpu/train.py"):
        check_repository(repository.context)


def test_no_git_at_all(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="git: cannot be run"):
        check_repository(repository.context)
