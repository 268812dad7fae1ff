"""Which command line an agent is started with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.loop.agent_output import Usage
from pytest_autoresearch.loop.presets import PROGRAMS, find_agent


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program of each name, in front of all others; the working folder is another one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\ncat\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "PI_CODING_AGENT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return folder


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_preset_gets_the_prompt_on_its_standard_input_and_options_among_its_own(name: str) -> None:
    agent = find_agent(f"{name} --model 'a b'")
    done = subprocess.run(agent.command, input="the prompt", capture_output=True, text=True, check=True)
    words = done.stdout.split("\n")
    assert words[0] == name
    assert words[words.index("--model") + 1] == "a b"
    assert words[-1] == "the prompt"
    assert agent.command[-1] == ("-" if name == "codex" else "a b")  # codex reads the prompt where it says -
    assert "..." not in words


def test_no_preset_leaves_its_folder_or_asks() -> None:
    assert {name: " ".join(find_agent(name).command) for name in PROGRAMS} == {
        "claude": "claude -p --output-format stream-json --verbose --no-session-persistence --permission-mode "
        "acceptEdits --setting-sources user "
        "--allowedTools=Bash(autoresearch show:*),Bash(autoresearch diff:*),Bash(autoresearch new:*)",
        "codex": "codex exec --json --ephemeral --skip-git-repo-check --sandbox workspace-write "
        "-c sandbox_workspace_write.exclude_slash_tmp=true -c sandbox_workspace_write.exclude_tmpdir_env_var=true -",
        "opencode": 'env OPENCODE_PERMISSION={"bash": "deny", "external_directory": "deny", "webfetch": "deny"} '
        "OPENCODE_DISABLE_PROJECT_CONFIG=1 opencode run --format json --dir {folder}",
        "gemini": "gemini --output-format stream-json --approval-mode auto_edit --skip-trust",
        "pi": "pi -p --mode json --no-session --no-approve --tools read,write,edit,grep,find,ls",
    }


def test_what_presets_say_of_cost_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name in PROGRAMS if find_agent(name).says_dollars] == ["claude", "opencode", "pi"]
    assert find_agent("codex").writable == (".codex",)
    monkeypatch.setenv("CODEX_HOME", "/elsewhere")
    assert find_agent("codex").writable == ("/elsewhere",)
    assert find_agent("codex").usage('{"type":"turn.completed","usage":{"input_tokens":1}}') == Usage(None, 1)


def test_a_preset_with_a_command_of_its_own_is_that_command(programs: Path) -> None:
    agent = find_agent("codex exec --json -")
    assert agent.command == (str(programs / "codex"), "exec", "--json", "-")
    assert (agent.name, agent.writable, agent.says_dollars) == ("codex", (".codex",), False)


def test_random_is_a_module_of_ours_and_costs_nothing() -> None:
    agent = find_agent("random --seed 3")
    assert agent.command == (sys.executable, "-P", "-m", "pytest_autoresearch.loop.random_agent", "--seed", "3")
    assert agent.usage("anything") == Usage(0.0, 0)


def test_any_command_line_is_an_agent_by_its_full_path() -> None:
    script = Path("agent.sh")
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    agent = find_agent("./agent.sh 'two words'")
    assert agent.command == (str(script.absolute()), "two words")
    assert (agent.name, agent.writable, agent.says_dollars) == ("agent.sh", (), True)
    assert agent.usage('{"total_cost_usd": 0.5}').dollars == 0.5


def test_what_can_be_no_agent_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("agent.py").touch()
    Path("program.md").touch()
    for words, line in {
        "": "--agent: no command; allowed are claude, codex, opencode, gemini, pi, random, or a command line",
        "sh 'open": "--agent sh 'open: no closing quotation",
        "nonesuch --x": "--agent nonesuch: no such program; allowed are claude, codex, opencode, gemini, pi, random, "
        "or a command line",
        "MODEL=x sh": "--agent MODEL=x: no such program; allowed are claude, codex, opencode, gemini, pi, random, "
        "or a command line (sh -c '…' for what a shell understands)",
        "cat | tee x": "--agent cat: | is for a shell; write --agent \"sh -c '…'\"",
        "sh agent.py": f"--agent sh: agent.py is not in the agent's folder; write {Path('agent.py').absolute()}",
    }.items():
        with pytest.raises(UsageError) as refusal:
            find_agent(words)
        assert str(refusal.value) == line
    assert find_agent("cat program.md").command[1] == "program.md"  # which it finds in its folder
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^--agent codex: no such program; npm install -g @openai/codex$"):
        find_agent("codex")
