"""A caller's request as the gateway reads it, and what of it goes to the provider. Pure.

The body is the caller's, in OpenAI's or Anthropic's format. Read here is only what deciding and charging need; the
provider judges the rest. What is ours in it (``flywheel``) never leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from flywheel.budget.bounds import CAP_PARAMS, arm_cap
from flywheel.policy import Arm
from flywheel.policy.cascade import PLAN
from flywheel_router.answers import json_value
from flywheel_router.gateway.errors import Refused

Endpoint = Literal["chat", "embeddings", "messages"]
PREFIX: Final = "flywheel/"
_CAPS: Final = ("max_completion_tokens", "max_tokens")
_FROM_HEADERS: Final = {
    "project": "x-flywheel-project",
    "team": "x-flywheel-team",
    "app": "x-flywheel-app",
    "environment": "x-flywheel-environment",
    "user": "x-flywheel-user",
    "default_model": "x-flywheel-default-model",
}
_OURS: Final = frozenset({*_FROM_HEADERS, "context"})
_FROM_METADATA: Final = ("team", "app", "environment")
_FIXED: Final = frozenset({"model", "messages", "input", "system", "stream", "stream_options", "n", "metadata", PLAN})
"""What an arm's parameters never set."""
_MOST_CHOICES: Final = 128


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. ``decide``: what deciding is asked, as ``POST /v1/decide`` takes it; without a feature ``model`` is a
    provider's, asked for by name. ``choices``: answers wanted of one call."""

    endpoint: Endpoint
    body: Mapping[str, Any]
    feature: str | None
    model: str
    decide: Mapping[str, Any]
    streaming: bool
    include_usage: bool
    choices: int
    cap: int | None
    deadline_s: float


def read_asked(
    endpoint: Endpoint,
    body: object,
    headers: Mapping[str, str],
    *,
    size_bytes: int,
    made_id: str,
    project: str,
    deadline_s: float,
) -> Asked:
    """Read a request. ``headers``: lower-case; ``made_id`` names it where the caller does not; ``size_bytes`` of the
    body as it came.

    Raises:
        Refused: naming the field.
    """
    if not isinstance(body, dict):
        raise Refused(400, "the body is a JSON object", param=None)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Refused(400, "model is the name of a model, such as flywheel/support-answers", param="model")
    streaming = _flag(body, "stream") and endpoint != "embeddings"
    choices = _whole(body, "n", most=_MOST_CHOICES) or 1 if endpoint == "chat" else 1
    caps = [found for name in _CAPS if (found := _whole(body, name)) is not None]
    cap = min(caps, default=None)
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refused(400, "stream_options is an object", param="stream_options")
    feature = model.removeprefix(PREFIX) if model.startswith(PREFIX) else None
    if feature == "":
        raise Refused(404, "flywheel/ must be followed by the name of a feature", param="model", code="model_not_found")
    identity = headers.get("x-request-id") or headers.get("idempotency-key") or made_id
    decide: dict[str, Any] = {"project": project, "request_id": identity, **_dimensions(body, headers)}
    if feature is not None:
        decide["feature"] = feature
    if endpoint != "embeddings" and cap is not None:
        decide["max_tokens"] = cap * choices
    elif endpoint == "embeddings":
        decide["max_tokens"] = 1  # an embedding has no output that costs
    if _only_text(endpoint, body):
        decide["input_bytes"] = size_bytes
    return Asked(
        endpoint=endpoint,
        body=body,
        feature=feature,
        model=model,
        decide=decide,
        streaming=streaming,
        include_usage=bool(options and options.get("include_usage")),
        choices=choices,
        cap=cap,
        deadline_s=min(deadline_s, _deadline(headers, deadline_s)),
    )


def upstream_body(
    asked: Asked, model: str, arm: Arm, cap: int | None, cap_param: str, *, logprobs: bool = False
) -> dict[str, Any]:
    """What is sent to the provider: the caller's body with the arm's model and parameters; with ``logprobs`` it is
    asked for the probabilities of the tokens too.

    The smallest of all caps on the output holds: the caller's, the arm's, and ``cap``, which a budget pays for (for all
    choices together).

    Raises:
        Refused: the budget's cap leaves no token for each choice.
    """
    body = {name: value for name, value in asked.body.items() if name != "flywheel"}
    if not body.get("store") and asked.endpoint != "messages":
        body.pop("metadata", None)  # OpenAI takes it only for what it stores; here it was for deciding
    body["model"] = model
    body.update(
        {name: json_value(text) for name, text in arm.params.items() if name not in _FIXED and name not in CAP_PARAMS}
    )
    if logprobs:
        body["logprobs"] = True
    if cap is not None and cap < asked.choices:
        raise Refused(402, f"the budget leaves {cap} tokens for {asked.choices} choices", param="n")
    if asked.endpoint == "embeddings":
        return body
    _put_cap(body, asked, arm, None if cap is None else cap // asked.choices, cap_param)
    if asked.streaming and asked.endpoint == "chat":
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


def _put_cap(body: dict[str, Any], asked: Asked, arm: Arm, paid: int | None, cap_param: str) -> None:
    """The smallest cap, under the name that the arm uses, else the caller, else the provider."""
    caps = [each for each in (asked.cap, paid, arm_cap(arm.params)) if each is not None]
    if not caps:
        return
    names = [name for name in _CAPS if name in arm.params] or [name for name in _CAPS if name in asked.body]
    for name in _CAPS:
        body.pop(name, None)
    body["max_tokens" if asked.endpoint == "messages" else (names or [cap_param])[0]] = max(1, min(caps))


def _dimensions(body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Who asks: from our own object in the body, then headers, then ``metadata`` and ``user``."""
    own = body.get("flywheel")
    if own is not None and not isinstance(own, dict):
        raise Refused(400, "flywheel is an object", param="flywheel")
    own = own or {}
    for name in own:
        if name not in _OURS:
            raise Refused(400, f"no such field; there are {', '.join(sorted(_OURS))}", param=f"flywheel.{name[:64]}")
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Refused(400, "metadata is an object", param="metadata")
    metadata = metadata or {}
    found: dict[str, Any] = {name: metadata[name] for name in _FROM_METADATA if isinstance(metadata.get(name), str)}
    user = body.get("safety_identifier") or body.get("user") or metadata.get("user_id")
    if isinstance(user, str):
        found["user"] = user
    found |= {name: headers[header] for name, header in _FROM_HEADERS.items() if header in headers}
    context = {name: value for name, value in metadata.items() if name not in found and isinstance(value, str)}
    found |= {name: value for name, value in own.items() if name != "context"}
    told = own.get("context") or {}
    if not isinstance(told, dict):
        raise Refused(400, "context is an object", param="flywheel.context")
    context |= told
    if context:
        found["context"] = context
    return found


def _only_text(endpoint: Endpoint, body: Mapping[str, Any]) -> bool:
    """Whether everything that is counted as input is text in the body, whose bytes then bound its tokens: a picture or
    a file behind a URL is not."""
    if endpoint == "embeddings":
        return True
    if any(name in body for name in ("audio", "modalities", "previous_response_id", "web_search_options", "container")):
        return False
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    return all(_text_message(each) for each in messages)


def _text_message(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in content) and not any(
            isinstance(part.get("content"), list) and not all(_is_text(each) for each in part["content"])
            for part in content
        )
    return content is None or isinstance(content, str)


_TEXT_PARTS: Final = frozenset({"text", "refusal", "tool_use", "tool_result", "thinking"})


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Refused(400, f"{name} is true or false", param=name)


def _whole(body: Mapping[str, Any], name: str, *, most: int = 10**9) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is int and 0 < value <= most:
        return value
    raise Refused(400, f"{name} is a whole number from 1 to {most}", param=name)


def _deadline(headers: Mapping[str, str], otherwise_s: float) -> float:
    told = headers.get("x-flywheel-deadline-ms")
    if told is None:
        return otherwise_s
    try:
        found_s = float(told) / 1000
    except ValueError:
        found_s = -1.0
    if not 0.0 < found_s < 86_400.0:
        raise Refused(400, "x-flywheel-deadline-ms is a number of milliseconds", param="x-flywheel-deadline-ms")
    return found_s
