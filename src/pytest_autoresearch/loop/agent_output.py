"""What an agent printed: what the session cost, and what it said last. The text may be cut, and may hold anything.

Agents of five programs print one JSON event a line. No two of them use the same fields for what a session used, so one
reader reads all, also where a command of the user's starts one of them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_DOLLARS = 1e6
MOST_TOKENS = 10**12
"""Larger numbers are not believed."""


@dataclass(frozen=True)
class Usage:
    """What a session used. `dollars` is None where the agent does not say what it cost, `tokens` likewise.

    Tokens are those that went in, cached ones too, and those that came out.
    """

    dollars: float | None = None
    tokens: int | None = None


def read_usage(output: str) -> Usage:
    """What the session used, by what its agent printed. Never raises.

    Some programs report each step, and some the total so far. Of a total the greatest counts, once for each session.
    """
    dollars: dict[object, float] = {}
    tokens: dict[object, float] = {}
    thread: object = None  # codex names its session in an event of its own
    for number, event in enumerate(_events(output)):
        kind = event.get("type")
        if kind == "thread.started":
            thread = str(event.get("thread_id"))
        elif kind == "turn.completed":  # codex: the total of the session so far
            _most(tokens, thread, _sum(event.get("usage"), "input_tokens", "output_tokens"))
        elif kind == "step_finish":  # opencode: one step
            part = _dict(event.get("part"))
            _most(dollars, number, _number(part.get("cost"), MOST_DOLLARS))
            _most(tokens, number, _number(_dict(part.get("tokens")).get("total")))
        elif kind in ("message_end", "turn_end", "agent_end"):  # pi: one message, in up to three events
            messages = event.get("messages")
            for message in map(_dict, [event.get("message"), *(messages if isinstance(messages, list) else [])]):
                usage, when = _dict(message.get("usage")), str(message.get("timestamp"))
                _most(dollars, when, _number(_dict(usage.get("cost")).get("total"), MOST_DOLLARS))
                _most(tokens, when, _number(usage.get("totalTokens")))
        elif "total_cost_usd" in event:  # claude, and any other: the total of the session so far
            parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
            _most(dollars, str(event.get("session_id")), _number(event["total_cost_usd"], MOST_DOLLARS))
            _most(tokens, str(event.get("session_id")), _sum(event.get("usage"), *parts))
        elif kind == "result":  # gemini: the total of the session
            _most(tokens, number, _number(_dict(event.get("stats")).get("total_tokens")))
    return Usage(
        dollars=min(sum(dollars.values()), MOST_DOLLARS) if dollars else None,
        tokens=min(int(sum(tokens.values())), MOST_TOKENS) if tokens else None,
    )


def last_words(output: str) -> str:
    """The last error that an event tells of, else the last text, else the last line; "" if there is none.

    It is not yet safe to show.
    """
    text = ""
    for event in reversed(list(_events(output))):
        if error := _error(event):
            return error
        text = text or _text(event)
    return text or next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


def _events(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects among the lines, and those in a list that is a line."""
    for line in output.splitlines():
        if not line.lstrip().startswith(("{", "[")):
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # cut, no JSON, a number of 5,000 digits, or ten thousand brackets
            continue
        yield from (event for event in (value if isinstance(value, list) else [value]) if isinstance(event, dict))


def _error(event: Mapping[str, Any]) -> str:
    """What an event says of an error, or ""."""
    error = event.get("error")
    if isinstance(error, dict):
        error = error.get("message") or _dict(error.get("data")).get("message") or error.get("name")
    if not error and (event.get("type") == "error" or event.get("is_error") is True):
        error = event.get("message") or event.get("result")
    return str(error or _dict(event.get("message")).get("errorMessage") or "")


def _text(event: Mapping[str, Any]) -> str:
    """What the agent says in an event, or ""."""
    message = _dict(event.get("message"))
    role = message.get("role") or event.get("role") or "assistant"
    content = message.get("content") or event.get("content")
    if role != "assistant":
        return ""
    parts = [_dict(part).get("text") for part in content] if isinstance(content, list) else [content]
    parts += [event.get("result"), _dict(event.get("item")).get("text"), _dict(event.get("part")).get("text")]
    return next((part for part in parts if isinstance(part, str) and part.strip()), "")


def _most(found: dict[object, float], key: object, value: float | None) -> None:
    """Keep the greatest value of a key."""
    if value is not None:
        found[key] = max(value, found.get(key, 0))


def _sum(usage: object, *names: str) -> float | None:
    """The sum of these fields; None if none of them is there."""
    numbers = [number for name in names if (number := _number(_dict(usage).get(name))) is not None]
    return sum(numbers) if numbers else None


def _number(value: object, most: float = MOST_TOKENS) -> float | None:
    """A number that can be believed, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= most else None  # not NaN


def _dict(value: object) -> dict[str, Any]:
    """The value if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}
