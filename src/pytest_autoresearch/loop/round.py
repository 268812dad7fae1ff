"""A round: one agent is asked for experiments, its files are checked, and what is worth a run joins the queue.

Everything about a round is kept in `results/<track>/rounds/<number>/`: the prompt, the agent's output, `round.json`,
and the files that preflight refused. A loop that was killed leaves rounds without an end; the next loop completes them.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.processes import signal_name
from pytest_autoresearch.core.text import counted, cut, one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop import agent_sandbox, ideas
from pytest_autoresearch.loop.agent import AgentProcess, end_agents
from pytest_autoresearch.loop.bring import bring_back
from pytest_autoresearch.loop.presets import Preset
from pytest_autoresearch.loop.round_folder import RoundFolder, all_facts
from pytest_autoresearch.loop.scratch import Brought, Scratch
from pytest_autoresearch.loop.status import AgentStatus, Finished
from pytest_autoresearch.loop.words import refusal
from pytest_autoresearch.research.brief import make_brief

ASKED_AGAIN = 2
"""How often an agent is asked to mend what preflight refused."""
IDEA = 120
"""The most characters of an agent's idea that are shown."""
IDEAS = "ideas.md"
NO_NAME = re.compile(r"[^\w.]", re.ASCII)


@dataclass(frozen=True)
class Request:
    """What an agent is asked for. `fix` is the experiment whose crash it is to mend, or "".

    `prompt` makes the text for each session of the round, given the reasons for which files were refused, by file.
    `files` are further files for the scratch folder, by name. `timeout` is in seconds, for each session.
    """

    prompt: Callable[[dict[str, str]], str]
    files: dict[str, str]
    fix: str = ""
    timeout: float = 1800.0
    sandbox: bool = False


class Round:
    """One round, from the scratch folder to the files in the queue. `step` moves it on; it never waits."""

    def __init__(self, context: Context, agent: Preset, request: Request) -> None:
        """Make the folders and start the agent. UsageError if the disk, or the agent's program, prevents it."""
        self._context, self._agent, self._request = context, agent, request
        self._began = time.monotonic()
        self._ended = ""  # why this process has ended the agent
        self._scratch = Scratch(Scratch.new_path(), {})
        facts = {"agent": agent.name, "scratch": str(self._scratch.folder), "fix": request.fix}
        try:
            self._folder = RoundFolder.begin(context, facts)
        except OSError as error:
            raise UsageError(context.shorten(error)) from None
        try:
            self._scratch = Scratch.make(context, request.files, self._scratch.folder)
            if given := self._scratch.read(IDEAS):  # so that only what the agent ticks is news
                (self._folder.path / IDEAS).write_text(given, encoding="utf-8", newline="")
            self._folder.facts["before"] = self._scratch.before  # from here on the agent may write
            self._ask({})
        except (OSError, UsageError) as error:
            finished = _finish(context, self._folder, self._scratch, [], context.shorten(error))
            raise UsageError(finished.trouble) from None

    @property
    def status(self) -> AgentStatus:
        """How far it is."""
        idea = cut(one_line(self._scratch.read("idea.txt")[: 2 * IDEA]), IDEA)
        seconds = time.monotonic() - self._began
        return AgentStatus(self._folder.number, seconds, idea, self._scratch.new_names())

    def step(self) -> Finished | None:
        """Look at the agent; if it has ended, collect and check what it brought. None while the round goes on."""
        if self._process.poll() is None:
            if self._process.seconds <= self._request.timeout:
                return None
            self._end_agent(f"took longer than {self._request.timeout / 60:.3g} min (--agent-timeout)")
        return self._collect(ask_again=not self._ended)

    def stop(self) -> Finished:
        """End the agent and the round now, and bring back what is worth a run."""
        self._end_agent("was stopped")
        finished = self._collect(ask_again=False)
        assert finished
        return finished

    def _end_agent(self, why: str) -> None:
        if self._process.poll() is None:
            self._ended = why
            self._process.kill()

    def _ask(self, refused: dict[str, str]) -> None:
        """Start a session of the agent. OSError, UsageError."""
        facts, scratch = self._folder.facts, self._scratch.folder
        facts["asked"] += 1
        self._folder.write()
        prompt = self._request.prompt(refused)
        kept = "prompt.md" if facts["asked"] == 1 else f"prompt-{facts['asked']}.md"
        (self._folder.path / kept).write_text(prompt, encoding="utf-8", errors="replace")
        command = [part.replace("{folder}", str(scratch)) for part in self._agent.command]
        if self._request.sandbox:
            command = agent_sandbox.wrap(command, scratch, self._agent.writable)
        variables = _variables(self._context, self._folder)
        self._process = AgentProcess(command, scratch, prompt, variables, self._log)

    @property
    def _log(self) -> Path:
        """The log of the latest session."""
        return self._folder.path / f"agent-{self._folder.facts['asked']}.log"

    def _collect(self, ask_again: bool) -> Finished | None:
        """Bring back what is worth a run. Ask for the rest again, or end the round."""
        facts = self._folder.facts
        facts["seconds"] = round(time.monotonic() - self._began, 1)
        with suppress(OSError):
            used = self._agent.usage(self._log.read_text(encoding="utf-8", errors="replace"))
            for name, amount in (("dollars", used.dollars), ("tokens", used.tokens)):
                if amount is not None:
                    facts[name] = (facts[name] or 0) + amount
        try:
            refused = bring_back(self._context, self._folder, self._scratch)
            if not (refused and ask_again and facts["asked"] <= ASKED_AGAIN):
                return _finish(self._context, self._folder, self._scratch, refused, self._trouble(refused))
        except (OSError, UsageError) as error:
            return _put_off(self._context, self._folder, error)
        try:
            self._ask({each.name: reason for each, reason in refused})
        except (OSError, UsageError) as error:
            return _finish(self._context, self._folder, self._scratch, refused, self._context.shorten(error))
        return None

    def _trouble(self, refused: Sequence[tuple[Brought, str]]) -> str:
        """What went wrong with a round that has brought nothing, in one line."""
        code = self._process.poll() or 0
        exited = f"ended with exit code {code}" if code > 0 else f"was ended by {signal_name(-code)}" if code else ""
        first = "".join(refusal(each.name, reason) for each, reason in refused[:1])
        many = ", the first" * (len(refused) > 1)
        wrote = f"{counted(len(refused), 'file')} refused{many}: {first}" if refused else "wrote no experiment"
        last = self._process.last_line()
        said = "" if refused else f"its last line: {last}" if last else "it printed nothing"
        return "; ".join(filter(None, (self._ended or exited, wrote, said)))


def complete_rounds(context: Context) -> list[Finished]:
    """End the rounds of loops that were killed: what their agents had written is checked and comes back."""
    return [_complete(context, folder) for folder in RoundFolder.left(context)]


def brought_by_rounds(context: Context) -> dict[str, int]:
    """The experiments that rounds have brought, and how often each was sent back to be mended.

    What comes back under another name than that of the experiment to mend inherits the number.
    """
    times: dict[str, int] = {}
    for facts in all_facts(context):
        fix = facts["fix"]
        if fix:
            times[fix] = times.get(fix, 0) + 1
        for name in facts["files"]:
            times.setdefault(name, times[fix] if fix else 0)
    return times


# -- the end of a round --


def _complete(context: Context, folder: RoundFolder) -> Finished:
    """End a round of a loop that is gone."""
    folder.facts["killed"] = True
    path = Path(str(folder.facts.get("scratch", "")))
    if not Scratch.is_path(path):  # whatever it is, it is not ours to remove
        return _finish(context, folder, None, [], "its loop was killed")
    before = folder.facts.get("before")
    scratch = Scratch(path, before if isinstance(before, dict) else {})
    end_agents(path)
    try:
        refused = bring_back(context, folder, scratch) if scratch.before == before else []
    except (OSError, UsageError) as error:
        return _put_off(context, folder, error)
    return _finish(context, folder, scratch, refused, "its loop was killed before it had written an experiment")


def _finish(
    context: Context, folder: RoundFolder, scratch: Scratch | None, refused: Sequence[tuple[Brought, str]], trouble: str
) -> Finished:
    """Keep what was refused, bring back the ticks, remove the scratch folder and write how the round has ended."""
    folder.facts["refused"] = {each.name: reason for each, reason in refused}
    folder.facts["trouble"] = "" if folder.facts["files"] else trouble
    for each, _ in refused:
        path = folder.path / "refused" / f"{NO_NAME.sub('_', each.name)}.txt"  # pytest runs some files that end in .py
        with suppress(OSError):
            if each.text:
                path.parent.mkdir(exist_ok=True)
                path.write_text(each.text, encoding="utf-8", newline="")
    if scratch:
        with suppress(OSError, UsageError):
            if (path := context.project.root / IDEAS).is_file() and (theirs := scratch.read(IDEAS)):
                ideas.bring_ticks(path, theirs, ideas.read_ideas(folder.path / IDEAS))
        with suppress(OSError):
            (folder.path / IDEAS).unlink(missing_ok=True)
        scratch.remove()
    with suppress(OSError):  # then the next loop does it
        folder.end()
    folder.let_go()
    return _finished(folder)


def _put_off(context: Context, folder: RoundFolder, error: Exception) -> Finished:
    """Leave a round without an end, because its files cannot be brought back now."""
    folder.facts["trouble"] = f"{context.shorten(error)}; the next loop brings back {folder.facts['scratch']}"
    folder.let_go()
    return _finished(folder)


def _finished(folder: RoundFolder) -> Finished:
    facts = folder.facts
    return Finished(
        number=folder.number,
        seconds=facts["seconds"],
        files=list(facts["files"]),
        refused=list(facts["refused"].items()),
        trouble=facts["trouble"],
        dollars=facts["dollars"],
        tokens=facts["tokens"],
        asked=facts["asked"],
        fixes=facts["fix"],
    )


def _variables(context: Context, folder: RoundFolder) -> dict[str, str]:
    """The environment of an agent. `autoresearch` is on its PATH. UsageError if the ledger cannot be read."""
    to_beat = make_brief(context).to_beat.val_bpb
    variables = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"}
    variables |= {
        "AUTORESEARCH_TRACK": context.base_track.name,
        "AUTORESEARCH_ROUND": str(folder.number),
        "AUTORESEARCH_ATTEMPT": str(folder.facts["asked"]),
        "AUTORESEARCH_VAL_BPB": f"{to_beat:.6f}" if to_beat else "",
    }
    return {name: value for name, value in variables.items() if value}
