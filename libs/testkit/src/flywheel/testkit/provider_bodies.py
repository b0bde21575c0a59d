"""The bodies a provider answers with, in OpenAI's and Anthropic's formats. Pure; tokens are words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_CREATED: Final = 1_790_000_000
_ANTHROPIC_STOP: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def words_in(asked: Mapping[str, Any]) -> int:
    """How many words were asked: of every text in the messages, the system prompt or the input."""
    found = [asked.get("system"), asked.get("input"), *(each.get("content") for each in asked.get("messages", ()))]
    return sum(_words(each) for each in found)


def _words(content: Any) -> int:
    if isinstance(content, str):
        return len(content.split())
    if isinstance(content, list):
        return sum(_words(each.get("text") if isinstance(each, dict) else each) for each in content)
    return 0


def _answered(asked: Mapping[str, Any], text: str, finish_reason: str) -> tuple[list[str], str]:
    """The words that are answered, cut to the cap, and why it ended."""
    words = text.split()
    caps = [asked[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(asked.get(name), int)]
    if caps and len(words) > min(caps):
        return words[: min(caps)], "length"
    return words, finish_reason


def _chat_usage(asked: Mapping[str, Any], words: int) -> dict[str, Any]:
    told = words_in(asked)
    return {
        "prompt_tokens": told, "completion_tokens": words, "total_tokens": told + words,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def _logprobs(asked: Mapping[str, Any], words: Iterable[str], logprob: float | None) -> dict[str, Any]:
    """The tokens' log-probabilities, all alike, where they are asked for and the provider has any."""
    if not asked.get("logprobs") or logprob is None:
        return {}
    tokens: list[dict[str, Any]] = [
        {"token": word, "logprob": logprob, "bytes": None, "top_logprobs": []} for word in words
    ]
    return {"logprobs": {"content": tokens, "refusal": None}}


def chat_answer(
    asked: Mapping[str, Any], text: str, *, usage: bool, finish_reason: str, logprob: float | None = None
) -> bytes:
    """A chat completion; ``n`` choices alike."""
    words, reason = _answered(asked, text, finish_reason)
    count = asked.get("n", 1)
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"message": message, "finish_reason": reason, **_logprobs(asked, words, logprob)}
    body: dict[str, Any] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": _CREATED, "model": asked["model"],
        "choices": [{"index": index, **choice} for index in range(count)],
    }  # fmt: skip
    if usage:
        body["usage"] = _chat_usage(asked, len(words) * count)
    return json.dumps(body).encode()


def chat_chunks(
    asked: Mapping[str, Any], text: str, *, usage: bool, finish_reason: str, logprob: float | None = None
) -> Iterator[bytes]:
    """A chat completion as events: the role, a word each, the end, usage where it is asked for, the closing mark."""
    words, reason = _answered(asked, text, finish_reason)
    told = usage and bool((asked.get("stream_options") or {}).get("include_usage"))

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": _CREATED, "model": asked["model"]}
        return b"data: " + json.dumps({**body, "choices": choices, **more}).encode() + b"\n\n"

    empty: dict[str, Any] = {"usage": None} if told else {}
    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **empty)
    for number, word in enumerate(words):
        piece = word if not number else f" {word}"
        said = {"index": 0, "delta": {"content": piece}, "finish_reason": None, **_logprobs(asked, [word], logprob)}
        yield event([said], **empty)
    yield event([{"index": 0, "delta": {}, "finish_reason": reason}], **empty)
    if told:
        yield event([], usage=_chat_usage(asked, len(words)))
    yield b"data: [DONE]\n\n"


def message_answer(asked: Mapping[str, Any], text: str, *, usage: bool, finish_reason: str) -> bytes:
    """A message in Anthropic's format."""
    words, reason = _answered(asked, text, finish_reason)
    body: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"],
        "content": [{"type": "text", "text": " ".join(words)}],
        "stop_reason": _ANTHROPIC_STOP[reason], "stop_sequence": None,
    }  # fmt: skip
    if usage:
        body["usage"] = _message_usage(asked, len(words))
    return json.dumps(body).encode()


def _message_usage(asked: Mapping[str, Any], words: int) -> dict[str, int]:
    return {
        "input_tokens": words_in(asked), "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": words,
    }  # fmt: skip


def message_events(asked: Mapping[str, Any], text: str, *, usage: bool, finish_reason: str) -> Iterator[bytes]:
    """A message as Anthropic's events: usage of the input at the start, of the output at the end."""
    words, reason = _answered(asked, text, finish_reason)

    def event(kind: str, **more: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()

    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [],
        "stop_reason": None, "stop_sequence": None, **({"usage": _message_usage(asked, 1)} if usage else {}),
    }  # fmt: skip
    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for number, word in enumerate(words):
        delta = {"type": "text_delta", "text": word if not number else f" {word}"}
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    told = {"usage": {"output_tokens": len(words)}} if usage else {}
    yield event("message_delta", delta={"stop_reason": _ANTHROPIC_STOP[reason], "stop_sequence": None}, **told)
    yield event("message_stop")


def embeddings(asked: Mapping[str, Any]) -> bytes:
    """A vector of three for each input."""
    given = asked.get("input")
    count = len(given) if isinstance(given, list) else 1
    told = words_in(asked)
    return json.dumps({
        "object": "list", "model": asked["model"],
        "data": [{"object": "embedding", "index": index, "embedding": [0.1, 0.2, 0.3]} for index in range(count)],
        "usage": {"prompt_tokens": told, "total_tokens": told},
    }).encode()  # fmt: skip


def failure(path: str, status: int) -> bytes:
    """An error in the format of the path."""
    if path.endswith("/messages"):
        return json.dumps({"type": "error", "error": {"type": "api_error", "message": f"simulated {status}"}}).encode()
    error = {"message": f"simulated {status}", "type": "server_error", "param": None, "code": None}
    return json.dumps({"error": error}).encode()
