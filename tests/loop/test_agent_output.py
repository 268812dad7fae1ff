"""What sessions cost, read from what the real programs printed, cut to the fields that count, and from garbage."""

import json

import pytest

from pytest_autoresearch.loop.agent_output import Usage, last_words, read_usage

CLAUDE = r"""
{"type":"system","subtype":"init","cwd":"/tmp/s","session_id":"0e38673f","tools":["Bash","Write"]}
{"type":"assistant","message":{"id":"msg_1","role":"assistant","content":[{"type":"tool_use","id":"toolu_7","name":"Write","input":{"file_path":"idea.txt","content":"Twice."}}],"usage":{"input_tokens":1000,"output_tokens":100}},"session_id":"0e38673f"}
{"type":"system","subtype":"permission_denied","tool_name":"Bash","message":"touch in '/x' needs approval.","session_id":"0e38673f"}
{"type":"assistant","message":{"id":"msg_1","role":"assistant","content":[{"type":"text","text":"Done."}],"usage":{"input_tokens":1000,"output_tokens":100}},"session_id":"0e38673f"}
{"duration_api_ms":307,"session_id":"0e38673f","total_cost_usd":0.042,"usage":{"input_tokens":7000,"cache_creation_input_tokens":20,"cache_read_input_tokens":10,"output_tokens":700,"server_tool_use":{"web_search_requests":0}},"modelUsage":{"claude-opus-5-5":{"costUSD":0.042}},"is_error":false,"subtype":"success","result":"Done.","type":"result"}
"""  # noqa: E501
CODEX = r"""
WARNING: proceeding, even though we could not create PATH aliases
{"type":"thread.started","thread_id":"01a20f20"}
{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata for `scripted` not found."}}
{"type":"turn.started"}
{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'cat > idea.txt'","aggregated_output":"","exit_code":0,"status":"completed"}}
{"type":"item.completed","item":{"id":"item_4","type":"agent_message","text":"Done."}}
{"type":"turn.completed","usage":{"input_tokens":4000,"cached_input_tokens":800,"cache_write_input_tokens":0,"output_tokens":400,"reasoning_output_tokens":40}}
"""  # noqa: E501
OPENCODE = r"""
{"type":"step_start","sessionID":"ses_df0d","part":{"id":"prt_20f2","type":"step-start"}}
{"type":"tool_use","sessionID":"ses_df0d","part":{"type":"tool","tool":"write","state":{"status":"completed","input":{"content":"Twice.\n","filePath":"idea.txt"},"output":"Wrote file successfully."}}}
{"type":"step_finish","sessionID":"ses_df0d","part":{"reason":"tool-calls","type":"step-finish","tokens":{"total":1100,"input":1000,"output":100,"reasoning":0,"cache":{"write":0,"read":0}},"cost":0.002}}
{"type":"text","sessionID":"ses_df0d","part":{"id":"prt_20f3","type":"text","text":"Done."}}
{"type":"step_finish","sessionID":"ses_df0d","part":{"reason":"stop","type":"step-finish","tokens":{"total":1200,"input":1100,"output":100,"reasoning":0,"cache":{"write":0,"read":0}},"cost":0.0025}}
"""  # noqa: E501
GEMINI = r"""
Ripgrep is not available. Falling back to GrepTool.
{"type":"init","session_id":"41539da8","model":"gemini-3-flash-preview"}
{"type":"message","role":"user","content":"Write one experiment.\n"}
{"type":"tool_result","tool_id":"write_file_0","status":"success"}
{"type":"message","role":"assistant","content":"Done.","delta":true}
{"type":"result","status":"success","stats":{"total_tokens":3300,"input_tokens":3000,"output_tokens":300,"cached":0,"tool_calls":2}}
"""
PI = r"""
{"type":"session","version":3,"id":"01a20f23","cwd":"/tmp/s"}
{"type":"message_end","message":{"role":"user","content":[{"type":"text","text":"Write one experiment."}],"timestamp":1}}
{"type":"message_update","usage":{"totalTokens":900,"cost":{"total":0.001}},"assistantMessageEvent":{"type":"toolcall_start"}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"toolCall","name":"write"}],"usage":{"input":1000,"output":100,"totalTokens":1100,"cost":{"input":0.001,"output":0.001,"total":0.002}},"timestamp":2}}
{"type":"turn_end","message":{"role":"assistant","content":[],"usage":{"totalTokens":1100,"cost":{"total":0.002}},"timestamp":2},"toolResults":[]}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"Done."}],"usage":{"totalTokens":1200,"cost":{"total":0.003}},"timestamp":3}}
{"type":"agent_end","messages":[{"role":"user","content":[],"timestamp":1},{"role":"assistant","content":[],"usage":{"totalTokens":1100,"cost":{"total":0.002}},"timestamp":2},{"role":"assistant","content":[{"type":"text","text":"Done."}],"usage":{"totalTokens":1200,"cost":{"total":0.003}},"timestamp":3}]}
{"type":"agent_settled"}
"""  # noqa: E501
PROGRAMS = {
    "claude": (CLAUDE, Usage(0.042, 7730)),
    "codex": (CODEX, Usage(None, 4400)),
    "opencode": (OPENCODE, Usage(0.0045, 2300)),
    "gemini": (GEMINI, Usage(None, 3300)),
    "pi": (PI, Usage(0.005, 2300)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_session_of_a_real_program_cost_and_said(name: str) -> None:
    output, used = PROGRAMS[name]
    found = read_usage(output)
    assert (found.dollars, found.tokens) == (pytest.approx(used.dollars), used.tokens)
    assert last_words(output) == "Done."


def test_the_total_of_a_session_counts_once_and_sessions_add_up() -> None:
    lines = [("a", 0.1), ("a", 0.3), ("b", 0.5), ("a", 0.2)]
    output = "\n".join(json.dumps({"session_id": name, "total_cost_usd": cost}) for name, cost in lines)
    assert read_usage(f"thinking\n{output}\n").dollars == pytest.approx(0.8)
    assert read_usage(CODEX + CODEX) == Usage(None, 4400)
    assert read_usage(CODEX + CODEX.replace("01a20f20", "other")) == Usage(None, 8800)


def test_an_array_of_events_is_read_too() -> None:
    events = [json.loads(line) for line in CLAUDE.split("\n") if line]
    assert read_usage(json.dumps(events)) == Usage(0.042, 7730)


def test_what_is_cut_does_not_count() -> None:
    assert read_usage(PI[PI.index('"timestamp":2') :]).dollars == pytest.approx(0.005)  # the last event has them all
    assert read_usage(CLAUDE[-100:]) == Usage()


GARBAGE = [
    "",
    "\x00\x1b[31m\udcff",
    "{" * 100_000,
    "[" * 100_000,
    '{"total_cost_usd": ' + "9" * 5000 + "}",
    '{"total_cost_usd": NaN}',
    '{"total_cost_usd": -1}',
    '{"total_cost_usd": Infinity, "usage": {"input_tokens": 1e400}}',
    '{"total_cost_usd": true, "usage": []}',
    '{"total_cost_usd": "3", "usage": {"input_tokens": "3"}}',
    '{"type": "turn.completed", "usage": [1]}',
    '{"type": "thread.started", "thread_id": []}\n{"type": "turn.completed", "usage": {"x": 1}}',
    '{"type": "step_finish", "part": 3}',
    '{"type": "agent_end", "messages": [3, {"usage": {"cost": 3}}]}',
    '{"type": "agent_end", "messages": {"a": 1}}',
    '{"type": ["result"], "stats": {}}',
    '{"type": "result", "stats": 3}',
    "[3, null]",
    '{"error": {"data": 3}, "message": 3, "item": [], "content": [3]}',
]


@pytest.mark.parametrize("output", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_costs_nothing_and_raises_nothing(output: str) -> None:
    assert read_usage(output) == Usage()
    assert isinstance(last_words(output), str)


def test_the_name_of_a_session_may_be_anything() -> None:
    events = [{"type": "thread.started", "thread_id": []}, {"type": "turn.completed", "usage": {"output_tokens": 7}}]
    assert read_usage("\n".join(map(json.dumps, events))) == Usage(None, 7)


def test_huge_numbers_are_not_believed() -> None:
    line = json.dumps({"type": "step_finish", "part": {"cost": 1e11, "tokens": {"total": 10**12}}})
    found = read_usage(f"{line}\n" * 30)
    assert (found.dollars, found.tokens) == (None, 10**12)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ('{"type":"turn.failed","error":{"message":"401 Unauthorized"}}', "401 Unauthorized"),
        ('{"type":"system","subtype":"api_retry","error":"authentication_failed"}', "authentication_failed"),
        ('{"type":"result","is_error":true,"result":"Not logged in"}', "Not logged in"),
        ('{"type":"error","error":{"name":"APIError","data":{"message":"invalid x-api-key"}}}', "invalid x-api-key"),
        (
            '{"type":"result","status":"error","error":{"message":"[API Error]"},"stats":{}}\n    at Turn.run {\n}',
            "[API Error]",
        ),
        ('{"type":"turn_end","message":{"role":"assistant","content":[],"errorMessage":"401"}}', "401"),
        ("reading\nno such model\n\n", "no such model"),
    ],
)
def test_the_last_error_is_found(output: str, words: str) -> None:
    assert last_words(output) == words
