"""A model server with ready answers: it tries an agent program without a model, an account or the internet.

    python examples/scripted_model_server.py --port 8123 experiments/rmsnorm.py experiments/rope.py

It speaks OpenAI's Responses and Chat Completions, Anthropic's Messages and Google's generateContent, streamed. It tells
the first session of an agent to write the first file, the second session the second, and so on, with the tools that the
agent offers. One agent at a time. docs/agents.md says how to point an agent at it.
"""

import argparse
import ast
import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Call = tuple[str, Json]
INPUT, OUTPUT = 1000, 100
"""The tokens that each answer claims to have used."""
STYLES = {"/responses": "responses", "/completions": "chat", "/messages": "messages", "GenerateContent": "google"}
"""The interface of a request, by the end of its path."""


def steps(path: Path) -> list[tuple[str, str]]:
    """The files that a session writes: its idea, and the experiment."""
    source = path.read_text(encoding="utf-8")
    idea = (ast.get_docstring(ast.parse(source)) or path.stem).splitlines()[0]
    return [("idea.txt", f"{idea}\n"), (f"experiments/{path.name}", source)]


def call(step: tuple[str, str], tools: dict[str, Json]) -> Call | None:
    """The call of one of these tools (argument names by tool) that writes a file; a shell will do."""
    path, text = step
    for name, arguments in tools.items():
        where = next((argument for argument in arguments if "path" in argument.lower()), None)
        if where and "content" in arguments:
            return name, {where: path, "content": text}
    for name, arguments in tools.items():
        if key := next((key for key in ("cmd", "command") if key in arguments), None):
            more = {"description": "Write the file."} if "description" in arguments else {}
            return name, {key: f"cat > {path} <<'END OF FILE'\n{text}END OF FILE\n", **more}
    return None


def read(style: str, request: Json) -> tuple[dict[str, Json], int]:
    """The tools of a request, their arguments by name, and how many results of calls it holds."""
    tools, words = request.get("tools", []), json.dumps(request.get("input") or request.get("messages") or request)
    if style == "google":
        tools = [tool for group in tools for tool in group.get("functionDeclarations", [])]
    if style == "chat":
        tools = [tool["function"] for tool in tools]
    schemas = ("parameters", "input_schema", "parametersJsonSchema")
    known: dict[str, Json] = {
        tool["name"]: next((tool[key] for key in schemas if tool.get(key)), {}) for tool in tools if "name" in tool
    }
    result = {
        "responses": '"type": "function_call_output"',
        "chat": '"role": "tool"',
        "messages": '"type": "tool_result"',
        "google": '"functionResponse"',
    }[style]
    return {name: schema.get("properties", {}) for name, schema in known.items()}, words.count(result)


def events(style: str, answer: Call | str, identity: str, model: str) -> Iterator[Json]:
    """The events of an answer: a call of a tool, or a text."""
    tool, arguments = answer if isinstance(answer, tuple) else ("", {})
    text = json.dumps(arguments) if tool else str(answer)
    if style == "responses":
        item: Json = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        if tool:
            item = {"type": "function_call", "call_id": identity, "name": tool, "arguments": text}
        usage = {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
        yield {"type": "response.created", "response": {"id": "scripted"}}
        yield {"type": "response.output_item.done", "output_index": 0, "item": {"id": f"item_{identity}", **item}}
        yield {"type": "response.completed", "response": {"id": "scripted", "usage": usage}}
    elif style == "chat":
        calls = [{"index": 0, "id": identity, "type": "function", "function": {"name": tool, "arguments": text}}]
        head = {"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": model}
        delta = {"role": "assistant", **({"tool_calls": calls} if tool else {"content": text})}
        end = "tool_calls" if tool else "stop"
        usage = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end}], "usage": usage}
    elif style == "messages":
        usage = {"input_tokens": INPUT, "output_tokens": OUTPUT}
        block = (
            {"type": "tool_use", "id": identity, "name": tool, "input": {}} if tool else {"type": "text", "text": ""}
        )
        delta = {"type": "input_json_delta", "partial_json": text} if tool else {"type": "text_delta", "text": text}
        message = {
            "id": identity,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "usage": usage,
        }
        yield {"type": "message_start", "message": message}
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        end = "tool_use" if tool else "end_turn"
        yield {"type": "message_delta", "delta": {"stop_reason": end, "stop_sequence": None}, "usage": usage}
        yield {"type": "message_stop"}
    else:
        part = {"functionCall": {"name": tool, "args": arguments}} if tool else {"text": text}
        count = {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT}
        content = {"role": "model", "parts": [part]}
        yield {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": count}


class Handler(BaseHTTPRequestHandler):
    """Answers each request by what it holds; `sessions` counts those that have begun."""

    protocol_version = "HTTP/1.1"
    files: Sequence[Path] = ()
    sessions = 0

    def do_POST(self) -> None:
        """One answer of the model."""
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        style = next((style for end, style in STYLES.items() if path.endswith(end)), "")
        if not style:
            self.send("application/json", "{}")
            return
        tools, results = read(style, request)
        answer: Call | str = "Done."
        if tools:  # requests without tools are for a title or the like
            Handler.sessions += not results
            if self.sessions <= len(self.files):
                left = steps(self.files[self.sessions - 1])[results:]
                answer = (left and call(left[0], tools)) or answer
        print(f"session {self.sessions}, answer {results + 1}: {answer if tools else 'no tools'}", flush=True)
        lines = [
            (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
            for event in events(style, answer, f"scripted_{self.sessions}_{results}", request.get("model", "scripted"))
        ]
        self.send("text/event-stream", "".join(lines) + ("data: [DONE]\n\n" if style == "chat" else ""))

    def do_GET(self) -> None:
        """The list of models: none."""
        self.send("application/json", '{"data": [], "models": []}')

    def send(self, kind: str, text: str) -> None:
        """Send a body."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A model server with ready answers.")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("files", nargs="+", type=Path, help="the experiments that agents write, one a session")
    given = parser.parse_args()
    Handler.files = given.files
    ThreadingHTTPServer(("127.0.0.1", given.port), Handler).serve_forever()
