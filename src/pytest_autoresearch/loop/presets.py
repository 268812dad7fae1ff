"""Presets: how to start known agents for one session without questions.

Each command reads the prompt from its standard input, works in the folder that it is started in, and is never asked
for a permission: what it may not do is refused. docs/agents.md says which versions of the programs were tried.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.loop.agent_output import Usage as Usage
from pytest_autoresearch.loop.agent_output import read_usage


@dataclass(frozen=True)
class Preset:
    """An agent that can be started. `{folder}` in the command is the scratch folder.

    `writable` are the paths below the user's home, or absolute ones, that it must be able to write in a sandbox.
    `usage` reads its output. `says_dollars`: whether that can hold a cost.
    """

    name: str
    command: tuple[str, ...]
    writable: tuple[str, ...]
    usage: Callable[[str], Usage]
    says_dollars: bool


@dataclass(frozen=True)
class _Program:
    """A known agent: its npm package, and its command, in which `...` stands for the user's further options.

    `homes` are its own folders below the user's home, by the environment variable that names another one, or "".
    """

    package: str
    command: tuple[str, ...]
    homes: tuple[tuple[str, str], ...]
    says_dollars: bool = True


MORE = "..."
PROGRAMS = {
    "claude": _Program(
        "@anthropic-ai/claude-code",
        (
            *("claude", "-p", "--output-format", "stream-json", "--verbose", "--no-session-persistence"),
            # The user's settings, and not those that an earlier session of the round has left in the folder.
            *("--permission-mode", "acceptEdits", "--setting-sources", "user"),
            "--allowedTools=Bash(autoresearch show:*),Bash(autoresearch diff:*),Bash(autoresearch new:*)",
            MORE,
        ),
        (("CLAUDE_CONFIG_DIR", ".claude"),),
    ),
    "codex": _Program(
        "@openai/codex",
        (
            *("codex", "exec", "--json", "--ephemeral", "--skip-git-repo-check", "--sandbox", "workspace-write"),
            *("-c", "sandbox_workspace_write.exclude_slash_tmp=true"),  # the folders of other rounds lie there
            *("-c", "sandbox_workspace_write.exclude_tmpdir_env_var=true"),
            *(MORE, "-"),
        ),
        (("CODEX_HOME", ".codex"),),
        says_dollars=False,
    ),
    "opencode": _Program(
        "opencode-ai",
        (
            # `deny` tells the agent that it may not. `ask` would end the session, because nobody answers.
            *("env", 'OPENCODE_PERMISSION={"bash": "deny", "external_directory": "deny", "webfetch": "deny"}'),
            *("OPENCODE_DISABLE_PROJECT_CONFIG=1", "opencode", "run", "--format", "json", "--dir", "{folder}", MORE),
        ),
        tuple(("", f"{folder}/opencode") for folder in (".local/share", ".local/state", ".cache")),
    ),
    "gemini": _Program(
        "@google/gemini-cli",
        ("gemini", "--output-format", "stream-json", "--approval-mode", "auto_edit", "--skip-trust", MORE),
        (("", ".gemini"),),
        says_dollars=False,
    ),
    "pi": _Program(
        "@earendil-works/pi-coding-agent",
        (
            *("pi", "-p", "--mode", "json", "--no-session", "--no-approve"),
            *("--tools", "read,write,edit,grep,find,ls", MORE),
        ),
        (("PI_CODING_AGENT_DIR", ".pi"),),
    ),
}
IN_SCRATCH = ("AGENTS.md", "baseline", "brief.md", "experiments", "ideas.md", "program.md", "prompt.md", "results.tsv")
"""What an agent finds in its scratch folder."""
SHELL = ("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1")
"""Words that only a shell understands."""


def find_agent(words: str) -> Preset:
    """The agent for `--agent WORDS`: a preset's name, with more options perhaps, or any command line.

    UsageError if it is empty, or no such program is there.
    """
    try:
        name, *more = shlex.split(words) or [""]
    except ValueError as error:
        raise UsageError(f"--agent {one_line(words)}: {str(error).lower()}") from None
    if not name:
        raise UsageError(f"--agent: no command; allowed are {', '.join(PROGRAMS)}, random, or a command line")
    if name == "random":
        command = (sys.executable, "-P", "-m", "pytest_autoresearch.loop.random_agent", *more)
        return Preset(name, command, (), lambda output: Usage(0.0, 0), says_dollars=True)
    known = PROGRAMS.get(Path(name).name)
    # A word that is no option begins a command line of the program's own: `codex exec …`, `opencode run …`.
    if known and name in PROGRAMS and not (more and not more[0].startswith("-")):
        if not shutil.which(name):
            raise UsageError(f"--agent {name}: no such program; npm install -g {known.package}")
        return _preset(
            name, known, tuple(part for word in known.command for part in (more if word == MORE else [word]))
        )
    return _preset(Path(name).name, known, _own_command(name, more))


def _preset(name: str, known: _Program | None, command: tuple[str, ...]) -> Preset:
    """An agent with this command; `known` is what is known of its program."""
    writable = tuple(os.environ.get(variable) or folder for variable, folder in (known.homes if known else ()))
    return Preset(name, command, writable, read_usage, says_dollars=known.says_dollars if known else True)


def _own_command(name: str, more: list[str]) -> tuple[str, ...]:
    """A command line of the user's, with the program's full path. UsageError if it cannot run in another folder."""
    for word in more:
        if word in SHELL:
            raise UsageError(f"--agent {one_line(name)}: {word} is for a shell; write --agent \"sh -c '…'\"")
        if not os.path.isabs(word) and os.path.isfile(word) and Path(word).parts[0] not in IN_SCRATCH:
            full = one_line(os.path.abspath(word))
            raise UsageError(f"--agent {one_line(name)}: {one_line(word)} is not in the agent's folder; write {full}")
    program = shutil.which(name)
    if not program:
        shell = " (sh -c '…' for what a shell understands)" if "=" in name else ""
        allowed = f"{', '.join(PROGRAMS)}, random, or a command line{shell}"
        raise UsageError(f"--agent {one_line(name)}: no such program; allowed are {allowed}")
    return (os.path.abspath(program), *more)
