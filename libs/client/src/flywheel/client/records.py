"""The facts a client sends, as the JSON that ingest and router take. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

ContextValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which arm serves a request. ``fallback`` says that no policy chose it, ``reason`` why."""

    decision_id: str | None
    arm: str
    propensity: float
    fallback: bool
    reason: str
    project: str
    feature: str
    request_id: str
    model: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    policy_version: int = 0
    policy_kind: str = "default"
    propensities: Mapping[str, float] = field(default_factory=dict)


def decision_from_answer(body: Mapping[str, Any], project: str, feature: str) -> Decision:
    """The router's answer as a decision.

    Raises:
        KeyError, TypeError, ValueError: it is not an answer.
    """
    return Decision(
        decision_id=str(body["decision_id"]),
        arm=str(body["arm"]),
        propensity=float(body["propensity"]),
        fallback=bool(body["fallback"]),
        reason=str(body["reason"]),
        project=project,
        feature=feature,
        request_id=str(body["request_id"]),
        model=body.get("model"),
        prompt_name=body.get("prompt_name"),
        prompt_version=body.get("prompt_version"),
        params=dict(body.get("params") or {}),
        policy=body.get("policy"),
        policy_version=int(body.get("policy_version", 0)),
        policy_kind=str(body.get("policy_kind", "default")),
        propensities=dict(body.get("propensities") or {}),
    )


def user_hash(key: bytes, project: str, user: str) -> str:
    """The user as ingest would store it: HMAC-SHA-256 (RFC 2104) with a key of its own for each project, cut to 128
    bits, in hex."""
    return hmac.digest(hmac.digest(key, project.encode(), "sha256"), user.encode(), "sha256").hex()[:32]


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, nulls left out: unknown is absent.

    Raises:
        TypeError: a value has no JSON form.
    """
    return orjson.dumps({name: value for name, value in record.items() if value is not None}, default=_decimal)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Free attributes as texts: what is not text becomes its JSON."""
    return {
        str(name): value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        for name, value in values.items()
    }


def usage_object(raw: object) -> Mapping[str, Any] | None:
    """A usage object as a mapping: as it is, or what an SDK's object (pydantic's ``model_dump``) says of itself.

    None where it is neither; the call then stays without usage instead of getting lost.
    """
    if isinstance(raw, Mapping):
        return raw
    dump = getattr(raw, "model_dump", None)
    try:
        said = None if dump is None else dump(mode="json")
    except Exception:  # whatever an SDK raises, the caller's work goes on
        return None
    return said if isinstance(said, Mapping) else None


def json_value(text: str) -> Any:
    """A parameter's value from its JSON text; text that is not JSON stands for itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def provider_of(model: str | None) -> str | None:
    """The provider in ``provider/model``."""
    return model.split("/", 1)[0] if model and "/" in model else None


def _decimal(value: object) -> str:
    if type(value).__name__ == "Decimal":
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
