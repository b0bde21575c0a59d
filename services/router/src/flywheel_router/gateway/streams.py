"""Server-sent events of a provider, cut out of the bytes as they come, and what they say of the answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

MAX_EVENT_BYTES: Final = 4 << 20
_BLANK: Final = re.compile(rb"\r?\n\r?\n")
_DONE: Final = b"[DONE]"


class EventTooLong(ValueError):
    """An event of a stream is longer than any answer needs."""


class Splitter:
    """Cuts a stream of bytes into events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now.

        Raises:
            EventTooLong: one does not end.
        """
        buffer = self._rest + data if self._rest else data
        events: list[bytes] = []
        start = 0
        for found in _BLANK.finditer(buffer):
            events.append(buffer[start : found.end()])
            start = found.end()
        self._rest = buffer[start:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event has more than {MAX_EVENT_BYTES} bytes")
        return events

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._rest


def data_of(event: bytes) -> bytes:
    """The data of an event; several lines of it are joined as the standard says."""
    lines = [line.rstrip(b"\r") for line in event.split(b"\n")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


@dataclass(slots=True)
class Tally:
    """What is known of an answer. ``usage``: the provider's own object; ``text_bytes`` and ``pieces``: what was
    streamed, in UTF-8 and in events with something in them. ``failed``: the provider said so. ``logprobs``: of the
    tokens, natural logarithms, where the provider gave them."""

    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    tool_calls: int = 0
    usage: dict[str, Any] | None = None
    text_bytes: int = 0
    pieces: int = 0
    complete: bool = False
    failed: str | None = None
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Reader(Protocol):
    """Follows a stream of one format."""

    tally: Tally

    def take(self, event: bytes) -> bytes | None:
        """Take an event; return what the caller gets of it, None for nothing."""
        ...


class ChatReader:
    """OpenAI's chunks. Usage, which the gateway always asks for, is taken out where the caller did not ask; so are
    probabilities of tokens with ``hide_logprobs``."""

    def __init__(self, *, include_usage: bool, keep_text: bool, hide_logprobs: bool = False) -> None:
        self.tally = Tally()
        self._include_usage = include_usage
        self._keep_text = keep_text
        self._hide_logprobs = hide_logprobs
        self._calls: set[tuple[int, int]] = set()

    def take(self, event: bytes) -> bytes | None:
        """See ``Reader``."""
        data = data_of(event)
        if not data:
            return event
        tally = self.tally
        if data == _DONE:
            tally.complete = True
            return event
        chunk = _parsed(data)
        if chunk is None:
            return event
        if chunk.get("error") is not None:
            tally.failed = _error_of(chunk["error"])
            return event
        _identity(tally, chunk)
        choices = chunk.get("choices")
        choices = choices if isinstance(choices, list) else []
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
        hidden = self._hide_logprobs and _hide_logprobs(choices)
        if "usage" not in chunk:
            return _event(chunk) if hidden else event
        usage = chunk["usage"]
        if isinstance(usage, dict):
            tally.usage = usage
        if self._include_usage:
            return _event(chunk) if hidden else event
        if isinstance(usage, dict) and not choices:
            return None
        del chunk["usage"]
        return _event(chunk)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        tally = self.tally
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            tally.finish_reason = reason
        _add_logprobs(tally, choice)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            _add_piece(self.tally, delta.get(name), keep_text=self._keep_text and name in ("content", "refusal"))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._calls.add((_number(choice.get("index")), _number(call.get("index"))))
                function = call.get("function")
                if isinstance(function, dict):
                    _add_piece(self.tally, function.get("arguments"), keep_text=self._keep_text)
        tally.tool_calls = len(self._calls)


class MessageReader:
    """Anthropic's events. Usage of the input comes with the first, of the output with the last."""

    def __init__(self, *, keep_text: bool) -> None:
        self.tally = Tally()
        self._keep_text = keep_text

    def take(self, event: bytes) -> bytes | None:
        """See ``Reader``."""
        said = _parsed(data_of(event))
        if said is None:
            return event
        tally = self.tally
        match said.get("type"):
            case "message_start" if isinstance(said.get("message"), dict):
                _identity(tally, said["message"])
                self._usage(said["message"].get("usage"))
            case "content_block_start" if isinstance(said.get("content_block"), dict):
                tally.tool_calls += said["content_block"].get("type") == "tool_use"
            case "content_block_delta" if isinstance(said.get("delta"), dict):
                for name in ("text", "partial_json", "thinking"):
                    _add_piece(self.tally, said["delta"].get(name), keep_text=self._keep_text and name != "thinking")
            case "message_delta":
                delta = said.get("delta")
                if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
                    tally.finish_reason = delta["stop_reason"]
                self._usage(said.get("usage"))
            case "message_stop":
                tally.complete = True
            case "error":
                tally.failed = _error_of(said.get("error"))
            case _:
                pass
        return event

    def _usage(self, usage: object) -> None:
        if isinstance(usage, dict):
            told = {name: value for name, value in usage.items() if value is not None}
            self.tally.usage = {**(self.tally.usage or {}), **told}


def read_whole(body: bytes, *, keep_text: bool) -> Tally:
    """What an answer that came whole says; a body that is no JSON object says nothing."""
    tally = Tally(complete=True)
    said = _parsed(body)
    if said is None:
        tally.complete = False
        return tally
    _identity(tally, said)
    usage = said.get("usage")
    tally.usage = usage if isinstance(usage, dict) else None
    if isinstance(said.get("stop_reason"), str):
        tally.finish_reason = said["stop_reason"]
    choices = said.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            _whole_choice(tally, choice, keep_text=keep_text)
    content = said.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            tally.tool_calls += part.get("type") == "tool_use"
            _add_text(tally, part.get("text"), keep_text=keep_text)
    return tally


def _whole_choice(tally: Tally, choice: Mapping[str, Any], *, keep_text: bool) -> None:
    if isinstance(choice.get("finish_reason"), str):
        tally.finish_reason = choice["finish_reason"]
    _add_logprobs(tally, choice)
    message = choice.get("message")
    if isinstance(message, dict):
        calls = message.get("tool_calls")
        tally.tool_calls += len(calls) if isinstance(calls, list) else 0
        _add_text(tally, message.get("content"), keep_text=keep_text)


def without_logprobs(body: bytes) -> bytes:
    """An answer that came whole as it would be had nobody asked for the probabilities of its tokens."""
    said = _parsed(body)
    choices = said.get("choices") if said is not None else None
    return orjson.dumps(said) if isinstance(choices, list) and _hide_logprobs(choices) else body


def _hide_logprobs(choices: list[Any]) -> bool:
    """Take them out of choices; say whether any had them."""
    found = [choice for choice in choices if isinstance(choice, dict) and choice.get("logprobs") is not None]
    for choice in found:
        choice["logprobs"] = None
    return bool(found)


def _add_logprobs(tally: Tally, choice: Mapping[str, Any]) -> None:
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else None
    for token in tokens if isinstance(tokens, list) else ():
        value = token.get("logprob") if isinstance(token, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            tally.logprobs.append(float(value))


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _add_piece(tally: Tally, text: object, *, keep_text: bool) -> None:
    """Take one event's text; an empty one is no piece."""
    if isinstance(text, str) and text:
        tally.pieces += 1
        _add_text(tally, text, keep_text=keep_text)


def _add_text(tally: Tally, text: object, *, keep_text: bool) -> None:
    if isinstance(text, str):
        tally.text_bytes += len(text.encode())
        if keep_text:
            tally.texts.append(text)


def _identity(tally: Tally, said: Mapping[str, Any]) -> None:
    for name in ("model", "service_tier"):
        if isinstance(said.get(name), str):
            setattr(tally, name, said[name][:256])
    if isinstance(said.get("id"), str):
        tally.response_id = said["id"][:256]


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _error_of(said: object) -> str:
    """A word for what went wrong; a provider's message may quote the caller, so it is not kept."""
    kind = said.get("type") or said.get("code") if isinstance(said, dict) else None
    return kind[:64] if isinstance(kind, str) and kind.isprintable() else "provider_error"


def _number(value: object) -> int:
    return value if type(value) is int else 0
