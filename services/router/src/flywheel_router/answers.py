"""Decisions as callers see them, in JSON. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

from flywheel.policy import DecideRequest, Decision

_MOST_KEPT: Final = 4096


def json_value(text: str) -> Any:
    """A parameter's value from its JSON text; text that is not JSON stands for itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def answer(decision: Decision, request_id: str) -> dict[str, Any]:
    """The decision as the caller sees it, in JSON's types."""
    return {
        "decision_id": decision.decision_id,
        "arm": decision.arm,
        "model": decision.model,
        "prompt_name": decision.prompt_name,
        "prompt_version": decision.prompt_version,
        "params": {name: json_value(text) for name, text in decision.params.items()},
        "propensity": decision.propensity,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "policy_kind": decision.policy_kind,
        "fallback": decision.fallback,
        "reason": decision.reason,
        "request_id": request_id,
        "propensities": dict(zip(decision.arms, decision.propensities, strict=True)),
    }


class AnswerWriter:
    """Writes answers: the same bytes as ``orjson.dumps(answer(…))``. But for the two ids they are the same for every
    decision of a policy version that chooses the same arm among the same arms, so those bytes are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}

    def write(self, decision: Decision, request: DecideRequest) -> bytes:
        """The answer to a request."""
        # The default of the caller, who may call it anything; or a linear policy's, with probabilities of its own.
        if not decision.policy_version or decision.encoding is not None:
            return orjson.dumps(answer(decision, request.request_id))
        key = (
            decision.policy_version, request.project, decision.policy, decision.arm, decision.propensity,
            decision.model, decision.reason, decision.arms, decision.output_tokens_bound,
        )  # fmt: skip
        kept = self._kept.get(key)
        if kept is None:
            kept = self._keep(key, decision)
        identity = orjson.dumps(decision.decision_id)
        return b"".join((b'{"decision_id":', identity, kept[0], orjson.dumps(request.request_id), kept[1]))

    def _keep(self, key: tuple[Any, ...], decision: Decision) -> tuple[bytes, bytes]:
        body = answer(decision, "")
        names = list(body)
        place = names.index("request_id")
        middle = orjson.dumps({name: body[name] for name in names[1:place]})
        end = orjson.dumps({name: body[name] for name in names[place + 1 :]})
        if len(self._kept) >= _MOST_KEPT:
            self._kept = {}
        kept = self._kept[key] = (b"," + middle[1:-1] + b',"request_id":', b"," + end[1:])
        return kept
