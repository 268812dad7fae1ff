"""A round: what an agent is asked, what comes back of it under which name, and what a kill leaves to the next loop.

Preflight, queue and backlog are fakes: a file with `refused: REASON` in it is refused.
"""

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeExecutor
from kills import arm, eight_at_once, killed, start
from tiny_project import TinyProject, write

from pytest_autoresearch.core import files
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.processes import tree
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options, Project
from pytest_autoresearch.loop import bring, ideas
from pytest_autoresearch.loop import round as rounds
from pytest_autoresearch.loop.presets import Preset, Usage
from pytest_autoresearch.loop.queue import Waiting
from pytest_autoresearch.loop.round import Request, Round, brought_by_rounds, complete_rounds
from pytest_autoresearch.loop.round_folder import rounds_folder
from pytest_autoresearch.loop.status import Finished

if not hasattr(os, "fork"):
    pytest.skip("agents need fork", allow_module_level=True)


def check(context: Context, path: Path, root: Path, waiting: Iterable[Path] = ()) -> str:
    text = path.read_text()
    if any(other.read_text() == text for other in waiting):
        return f"{path}: the same as one that waits"
    return f"{path}: {text.partition('refused: ')[2].strip()}" if "refused: " in text else ""


class AllButGiven:
    """All experiments but one wait."""

    def __init__(self, context: Context) -> None:
        self.root = context.project.experiments

    def waiting(self) -> list[Waiting]:
        return [Waiting(path.stem, path) for path in self.root.glob("*.py") if path.is_file() and path.stem != "given"]


def dollars_in(output: str) -> Usage:
    cost = sum(float(line.removeprefix("cost ")) for line in output.splitlines() if line.startswith("cost "))
    return Usage(cost or None, output.count("token") or None)


class Loop:
    """A loop's rounds in a project, with agents that are shell scripts."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        self.prompts: list[dict[str, str]] = []

    @property
    def context(self) -> Context:
        project = Project(self.folder, self.folder / "experiments", self.folder / "baseline")
        return Context(project, Options(track="cpu"), FakeExecutor(self.folder, [], {}))

    def begin(self, script: str, **request: Any) -> Round:
        def prompt(refused: dict[str, str]) -> str:
            self.prompts.append(refused)
            return f"the prompt, {len(refused)} refused"

        preset = Preset("scripted", ("sh", "-c", script, "{folder}/agent"), (), dollars_in, True)
        return Round(self.context, preset, Request(prompt, {"brief.md": "the brief"}, **request))

    def run(self, script: str, **request: Any) -> Finished:
        begun = self.begin(script, **request)
        return eventually(begun.step)

    def kept(self, number: int, name: str) -> str:
        return (rounds_folder(self.context) / str(number) / name).read_text()

    def facts(self, number: int) -> dict[str, Any]:
        return json.loads(self.kept(number, "round.json"))

    @property
    def experiments(self) -> dict[str, str]:
        """What stands in the project, hidden files too."""
        root = self.folder / "experiments"
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}

    @property
    def left(self) -> list[str]:
        """Scratch folders that are still there."""
        return os.listdir(self.temporary)


def eventually(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := done()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def bring_all(path: Path, theirs: str, given: str) -> None:
    path.write_text(theirs)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    project = TinyProject(tmp_path / "project", monkeypatch)
    project.experiment("given", "WIDTH = 1")
    shutil.rmtree(project.path / "text")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(bring, "preflight", SimpleNamespace(check=check))
    monkeypatch.setattr(bring, "Queue", AllButGiven)
    monkeypatch.setattr(rounds, "ideas", SimpleNamespace(bring_ticks=bring_all, read_ideas=str))
    return Loop(project.path, tmp_path / "temporary")


# -- what is asked, and what comes back --


def test_a_round(loop: Loop) -> None:
    write(loop.folder / "ideas.md", "- [ ] wider")
    finished = loop.run(
        """
        cat prompt.md brief.md; echo " in $PWD, called $0"; echo cost 0.25; echo a token
        echo "$AUTORESEARCH_TRACK $AUTORESEARCH_ROUND $AUTORESEARCH_ATTEMPT ${AUTORESEARCH_VAL_BPB-unknown}"
        echo "wider" > experiments/wider.py; mkdir experiments/deep; sleep 0.02; echo "er" > experiments/deep/er.py
        echo "- [x] wider" > ideas.md; echo hack > results.tsv; echo hack > baseline/cpu/train.py
        echo more > ideas.txt; rm experiments/given.py; exit 1
        """
    )
    assert finished == Finished(1, finished.seconds, ["wider", "deep/er"], [], "", 0.25, 1, 1, "")
    assert finished.seconds > 0
    assert {name: text for name, text in loop.experiments.items() if name != "given.py"} == {
        "wider.py": "wider\n",
        "deep/er.py": "er\n",
    }
    assert "given.py" in loop.experiments
    assert (loop.folder / "ideas.md").read_text() == "- [x] wider\n"
    assert "hack" not in (loop.folder / "baseline/cpu/train.py").read_text()
    assert not (loop.folder / "results.tsv").exists()
    assert loop.kept(1, "prompt.md") == "the prompt, 0 refused"
    first, *_, last = loop.kept(1, "agent-1.log").splitlines()
    folder = first.partition(" in ")[2].partition(", called ")[0]
    assert first == f"the prompt, 0 refusedthe brief in {folder}, called {folder}/agent"
    assert Path(folder).parent == loop.temporary
    assert last == "cpu 1 1 unknown"
    facts = loop.facts(1)
    assert facts["ended"] >= facts["started"]
    assert (facts["agent"], facts["files"], facts["trouble"]) == ("scripted", ["wider", "deep/er"], "")
    assert not {"before", "scratch"} & facts.keys()
    assert loop.left == []
    assert loop.run("true").number == 2


def test_the_number_to_beat_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_VAL_BPB", "of another loop")
    brief = SimpleNamespace(to_beat=SimpleNamespace(val_bpb=None))
    monkeypatch.setattr(rounds, "make_brief", lambda context: brief)
    assert loop.run("echo ${AUTORESEARCH_VAL_BPB-unknown}").trouble.endswith("its last line: unknown")
    brief.to_beat.val_bpb = 1.25
    assert loop.run("echo $AUTORESEARCH_VAL_BPB").trouble.endswith("its last line: 1.250000")


def test_what_goes_on_is_known(loop: Loop) -> None:
    begun = loop.begin("printf 'a \\033[2J wide\nidea' > idea.txt; touch experiments/new.py go; exec sleep 600")
    eventually(lambda: os.path.exists(begun._scratch.folder / "go"))
    status = begun.status
    assert (status.number, status.idea, list(status.files)) == (1, r"a \x1b[2J wide idea", ["new"])
    assert status.seconds > 0
    assert begun.step() is None
    assert begun.stop().files == ["new"]
    assert loop.left == []


def test_the_agent_can_be_in_a_sandbox(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(command: list[str], folder: Path, writable: tuple[str, ...]) -> list[str]:
        return ["env", f"BOXED={folder.name}", *command]

    monkeypatch.setattr(rounds, "agent_sandbox", SimpleNamespace(wrap=wrap))
    assert loop.run('test "$BOXED" = "$(basename $PWD)" && touch experiments/a.py', sandbox=True).files == ["a"]
    assert loop.run('test -z "$BOXED" && echo b > experiments/b.py').files == ["b"]


def test_nobodys_file_is_overwritten(loop: Loop) -> None:
    mine = loop.experiments["given.py"]
    loop.folder.joinpath("experiments/taken_2.py").mkdir()
    begun = loop.begin("echo theirs > experiments/given.py; echo theirs too > experiments/taken.py")
    write(loop.folder / "experiments/taken.py", "a person's")
    (loop.folder / "experiments/taken_3.py").symlink_to("nowhere")
    assert eventually(begun.step).files == ["given_2", "taken_4"]
    assert loop.run("echo others > experiments/given.py").files == ["given_3"]
    found = loop.experiments
    assert (found["given.py"], found["given_2.py"], found["given_3.py"]) == (mine, "theirs\n", "others\n")
    assert (found["taken.py"], found["taken_4.py"]) == ("a person's", "theirs too\n")


def test_a_person_who_is_faster_keeps_the_name(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(path: Path, text: str) -> None:
        if path.name == "idea.py":
            write(path, "a person's")
        files.create_atomically(path, text)

    monkeypatch.setattr(bring, "create_atomically", create)
    assert loop.run("echo theirs > experiments/idea.py").files == ["idea_2"]
    assert loop.experiments["idea.py"] == "a person's"


def test_what_is_to_be_mended_is_replaced(loop: Loop) -> None:
    finished = loop.run("echo mended > experiments/given.py; echo new > experiments/other.py", fix="given")
    assert (set(finished.files), finished.fixes) == ({"given", "other"}, "given")
    assert loop.experiments == {"given.py": "mended\n", "other.py": "new\n"}


def test_what_is_to_be_mended_and_was_changed_meanwhile_stays(loop: Loop) -> None:
    begun = loop.begin("echo mended > experiments/given.py", fix="given")
    write(loop.folder / "experiments/given.py", "a person's")
    assert eventually(begun.step).files == ["given_2"]
    assert loop.experiments == {"given.py": "a person's", "given_2.py": "mended\n"}


def test_an_idea_that_a_person_opened_again_stays_open(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ideas", ideas)
    path = write(loop.folder / "ideas.md", "- [x] wider\n- [ ] deeper\n")
    begun = loop.begin("sed -i 's/\\[ ] deeper/[x] deeper/' ideas.md")
    write(path, "- [ ] wider\n- [ ] deeper\n")
    eventually(begun.step)
    assert path.read_text() == "- [ ] wider\n- [x] deeper\n"


def test_files_in_what_is_no_folder_here_are_refused_and_the_others_come_back(loop: Loop) -> None:
    write(loop.folder / "experiments/notes", "a person's")
    (loop.folder / "experiments/old").symlink_to(loop.folder, target_is_directory=True)
    finished = loop.run(
        "cd experiments; mkdir -p notes old/deep; echo a > notes/a.py; echo b > old/deep/b.py; echo c > c.py; exec 2>&-"
    )
    assert finished.files == ["c"]
    assert dict(finished.refused) == {
        "notes/a.py": "experiments/notes is no folder in the project, so choose another name",
        "old/deep/b.py": "experiments/old is no folder in the project, so choose another name",
    }
    assert not (loop.folder / "deep").exists()
    assert loop.left == []


def test_what_is_kept_of_a_round_may_be_removed_meanwhile(loop: Loop) -> None:
    begun = loop.begin("echo a > experiments/a.py; echo b > experiments/b.py")
    shutil.rmtree(loop.folder / "results")
    finished = eventually(begun.step)
    assert (sorted(finished.files), finished.trouble, loop.left) == (["a", "b"], "", [])
    assert sorted(loop.facts(1)["files"]) == ["a", "b"]


# -- what is refused --


def test_what_is_refused_goes_back_with_the_reason(loop: Loop) -> None:
    finished = loop.run(
        """
        case $AUTORESEARCH_ATTEMPT in
            1) echo good > experiments/good.py; echo refused: no such name > experiments/bad.py;;
            2) echo refused: still no such name > experiments/bad.py; echo better > experiments/good.py;;
            3) echo mended > experiments/bad.py;;
        esac
        echo cost 1
        """
    )
    assert finished.files == ["good", "good_2", "bad"]
    assert (finished.refused, finished.asked, finished.dollars, finished.trouble) == ([], 3, 3.0, "")
    assert loop.prompts == [
        {},
        {"bad.py": "experiments/bad.py: no such name"},
        {"bad.py": "experiments/bad.py: still no such name"},
    ]
    assert loop.experiments["good.py"] == "good\n"
    assert loop.kept(1, "prompt-2.md") == "the prompt, 1 refused"
    assert loop.kept(1, "agent-3.log") == "cost 1\n"


def test_it_goes_back_twice_at_most_and_is_kept(loop: Loop) -> None:
    finished = loop.run(
        "echo refused: for good > experiments/my-bad.py; sleep 0.02; echo refused: as well > experiments/b.py"
    )
    reason = "a name must have only letters, digits and _, and begin with a letter"
    assert dict(finished.refused) == {"my-bad.py": reason, "b.py": "experiments/b.py: as well"}
    assert (finished.asked, finished.files) == (3, [])
    assert finished.trouble == f"2 files refused, the first: my-bad.py: {reason}"
    assert loop.kept(1, "refused/my_bad.py.txt") == "refused: for good\n"
    assert loop.facts(1)["refused"] == dict(finished.refused)
    assert list(loop.experiments) == ["given.py"]


def test_what_equals_another_of_the_round_is_refused(loop: Loop) -> None:
    finished = loop.run("for name in a b; do echo same > experiments/$name.py; sleep 0.02; done")
    assert (finished.files, finished.refused) == (["a"], [("b.py", "experiments/b.py: the same as one that waits")])


def test_a_round_brings_twenty_files(loop: Loop) -> None:
    finished = loop.run(
        "for n in $(seq 30); do echo $AUTORESEARCH_ATTEMPT $n > experiments/n${AUTORESEARCH_ATTEMPT}_$n.py; done"
    )
    assert len(finished.files) == len(loop.experiments) - 1 == 20
    assert "at most 20 files come back" in {reason for _, reason in finished.refused}


# -- trouble --


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        ("echo 'You have hit your limit'", "wrote no experiment; its last line: You have hit your limit"),
        ("exit 7", "ended with exit code 7; wrote no experiment; it printed nothing"),
        ("kill -9 $$", "was ended by SIGKILL; wrote no experiment; it printed nothing"),
        ('rm -rf "$PWD"', "wrote no experiment; it printed nothing"),
        ("d=$PWD; cd /; rm -rf $d; ln -s /etc $d", "wrote no experiment; it printed nothing"),
        ("rm -r experiments; mkfifo experiments idea.txt", "wrote no experiment; it printed nothing"),
    ],
    ids=["limit", "exit code", "killed", "removed", "replaced", "pipes"],
)
def test_a_round_without_files_says_why(loop: Loop, script: str, trouble: str) -> None:
    finished = loop.run(script)
    assert (finished.trouble, finished.files, finished.asked) == (trouble, [], 1)
    assert loop.facts(1)["trouble"] == trouble
    assert loop.left == []


def test_an_agent_that_takes_too_long_is_ended_and_what_it_wrote_counts(loop: Loop) -> None:
    finished = loop.run("echo 1 > experiments/a.py; echo refused: x > experiments/b.py; exec sleep 600", timeout=0.5)
    assert (finished.files, finished.asked, finished.trouble) == (["a"], 1, "")
    finished = loop.run("echo thinking; exec sleep 600", timeout=0.06)
    words = "took longer than 0.001 min (--agent-timeout); wrote no experiment"
    assert finished.trouble.startswith(words)


def test_a_scratch_folder_that_is_gone_cannot_be_worked_in_again(loop: Loop) -> None:
    finished = loop.run("echo refused: x > experiments/a.py; mkdir prompt.md; chmod 555 .")
    if os.getuid():
        assert "prompt.md" in finished.trouble
    assert finished.files == []
    assert loop.left == []


def test_no_such_agent(loop: Loop) -> None:
    preset = Preset("none", ("no-such-agent",), (), dollars_in, False)
    with pytest.raises(UsageError, match=r"^no-such-agent: no such program$"):
        Round(loop.context, preset, Request(lambda refused: "", {}))
    assert loop.left == []
    assert loop.facts(1)["trouble"] == "no-such-agent: no such program"
    assert complete_rounds(loop.context) == []


def test_no_place_for_rounds(loop: Loop) -> None:
    write(loop.folder / "results/cpu", "no folder")
    with pytest.raises(UsageError, match="results/cpu/rounds: "):
        loop.begin("true")
    assert loop.left == []


def test_a_full_disk_loses_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(bring, "create_atomically", full)
        finished = loop.run("echo 1 > experiments/a.py; echo 2 > experiments/b.py")
    (scratch,) = loop.left
    where = f"the next loop brings back {loop.temporary / scratch}"
    assert finished.trouble == f"experiments/a.py: No space left on device; {where}"
    assert finished.files == []
    assert loop.run("echo 3 > experiments/c.py").files == ["c"]
    (completed,) = complete_rounds(loop.context)
    assert (completed.number, completed.files, completed.trouble) == (1, ["a", "b"], "")
    assert set(loop.experiments) == {"given.py", "a.py", "b.py", "c.py"}
    assert loop.left == []
    assert complete_rounds(loop.context) == []


# -- several loops, and kills --


def test_loops_that_work_at_once_overwrite_nothing(loop: Loop) -> None:
    eight_at_once(lambda: loop.run("echo $AUTORESEARCH_ROUND > experiments/idea.py"))
    found = [facts["files"] for facts in map(loop.facts, range(1, 9))]
    names = {"idea", *(f"idea_{number}" for number in range(2, 9))}
    assert sorted(name for (name,) in found) == sorted(names)
    texts = {name: text for name, text in loop.experiments.items() if name != "given.py"}
    assert {name.removesuffix(".py") for name in texts} == names
    assert sorted(texts.values()) == [f"{number}\n" for number in range(1, 9)]
    assert loop.left == []


def test_a_round_of_a_loop_that_lives_is_left_alone(loop: Loop) -> None:
    begun = loop.begin("echo x > experiments/a.py; exec sleep 600")
    assert complete_rounds(loop.context) == []
    assert begun.step() is None
    begun.stop()


def test_the_next_loop_completes_the_round_of_one_that_was_killed(loop: Loop) -> None:
    """Its agent's guard was killed, too, so nobody has ended what the agent had started."""
    script = """
    echo x > experiments/a.py; echo refused: no > experiments/b.py
    setsid sh -c 'echo $$ > pid; exec sleep 600' & echo $PPID > guard; exec sleep 600
    """
    child = start(lambda: eventually(loop.begin(script).step))
    (pid,) = eventually(lambda: [path.read_text() for path in loop.temporary.glob("*/pid") if path.read_text()])
    (guard,) = eventually(lambda: [path.read_text() for path in loop.temporary.glob("*/guard") if path.read_text()])
    for process in (int(guard), child):
        os.kill(process, signal.SIGKILL)
    os.waitpid(child, 0)
    (finished,) = complete_rounds(loop.context)
    assert finished == Finished(1, 0.0, ["a"], [("b.py", "experiments/b.py: no")], "", asked=1)
    assert loop.experiments["a.py"] == "x\n"
    assert not any(process.pid == int(pid) and process.alive for process in tree(int(pid)))
    assert loop.left == []
    assert complete_rounds(loop.context) == []


ENDED = ("new\n", "mended\n", "better\n")


class Instant:
    """An agent that has written its files when it has begun, and costs no process."""

    def __init__(self, command: object, folder: Path, prompt: str, variables: dict[str, str], log: Path) -> None:
        told = {"a.py": "new\n", "given.py": "mended\n", "b.py": "refused: no"}
        for name, text in (told if variables["AUTORESEARCH_ATTEMPT"] == "1" else {"b.py": "better\n"}).items():
            file = os.open(folder / "experiments" / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.write(file, text.encode())
            os.close(file)

    def poll(self) -> int:
        return 0

    def last_line(self) -> str:
        return ""


def test_killed_at_any_change_to_a_file_nothing_is_lost_or_doubled(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop is killed, and the next one completes the round. Each test run tries another sixth of the places."""
    monkeypatch.setattr(rounds, "AgentProcess", Instant)
    monkeypatch.setattr(rounds, "end_agents", lambda folder: None)
    fresh = loop.folder.with_name("fresh")
    loop.folder.rename(fresh)
    given = (fresh / "experiments/given.py").read_text()
    seen = set()

    def run() -> None:
        arm(place)
        loop.run("", fix="given")

    for place in range(random.randrange(6), 10_000, 6):
        shutil.rmtree(loop.folder, ignore_errors=True)
        shutil.copytree(fresh, loop.folder)
        if not killed(start(run)):
            break
        written = [*loop.experiments.items()]
        written += [(path.name, path.read_text()) for path in loop.temporary.glob("*/experiments/*.py")]
        texts = {name: text for name, text in written if text in ENDED and name[0] != "."}
        began = (rounds_folder(loop.context) / "1").exists()
        complete_rounds(loop.context)
        found = loop.experiments
        assert found == {"given.py": given} | texts, place
        if began:
            assert loop.facts(1)["ended"]
            assert {f"{name}.py" for name in loop.facts(1)["files"]} == {
                n for n, text in found.items() if text != given
            }
        assert loop.left == []
        assert complete_rounds(loop.context) == []
        seen.add(frozenset(found))
    assert seen == {frozenset(names) for names in (["given.py"], ["given.py", "a.py"], ["given.py", "a.py", "b.py"])}
    assert loop.experiments == {"given.py": "mended\n", "a.py": "new\n", "b.py": "better\n"}


def test_a_broken_round_json_harms_nobody(loop: Loop) -> None:
    texts = ["", "{", "[]", '{"files": 3, "scratch": "/", "before": {}}', '{"scratch": "~", "agent": null}']
    for number, text in enumerate(texts, 7):
        write(rounds_folder(loop.context) / f"{number}/round.json", text)
    write(rounds_folder(loop.context) / "notes/mine", "no round")
    finished = complete_rounds(loop.context)
    assert [(each.number, each.trouble) for each in finished] == [(7 + n, "its loop was killed") for n in range(5)]
    assert loop.run("true").number == 12
    assert brought_by_rounds(loop.context) == {}


def test_how_often_an_experiment_was_sent_back(loop: Loop) -> None:
    assert brought_by_rounds(loop.context) == {}
    loop.run("echo 1 > experiments/a.py; echo 2 > experiments/b.py")
    assert brought_by_rounds(loop.context) == {"a": 0, "b": 0}
    loop.run("echo 3 > experiments/a.py", fix="a")
    loop.run("echo 4 > experiments/c.py", fix="a")
    assert brought_by_rounds(loop.context) == {"a": 2, "b": 0, "c": 2}
