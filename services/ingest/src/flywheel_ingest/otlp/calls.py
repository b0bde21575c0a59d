"""A span, or the event that tells the same of it, to a call."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson

from flywheel.events import event_id
from flywheel_ingest.costs import word
from flywheel_ingest.items import LONGEST_MS
from flywheel_ingest.otlp import names
from flywheel_ingest.otlp.drafts import Draft
from flywheel_ingest.otlp.records import Attributes, Log, Span
from flywheel_ingest.otlp.usage import put_cost, put_usage

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
NOT_GENAI: Final = "not_genai"
NOT_A_CALL: Final = "not_a_call"
UNKNOWN_NAME: Final = "unknown"
"""Provider or model of a call that names none; a flag says so too."""

_FAILED: Final = 2
_FROM_INVOCATION: Final = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_tokens"}
_LESS_SURE: Final = (names.ANSWERED_MODEL, "embedding.model_name")
_MAX_FINISH: Final = 256


def operation_of(attributes: Attributes) -> str:
    """The operation of a call, ``NOT_A_CALL`` for other GenAI spans (tools, agents, workflows, retrieval: what they
    cost is in the calls below them), ``NOT_GENAI`` for the rest."""
    if not attributes.genai:
        return NOT_GENAI
    values = attributes.values
    named = values.get(names.OPERATION) or values.get(names.REQUEST_TYPE)
    if isinstance(named, str) and named.lower() != "unknown":
        return names.OPERATIONS.get(named.lower(), NOT_A_CALL)
    kind = values.get(names.OPENINFERENCE_KIND)
    if isinstance(kind, str):
        return names.OPENINFERENCE_CALLS.get(kind.upper(), NOT_A_CALL)
    if names.TRACELOOP_KIND in values:
        return NOT_A_CALL
    model = any(values.get(key) for key in names.TEXTS["request_model"])
    return "UNKNOWN" if model and any(values.get(key) for key in names.PROVIDER) else NOT_A_CALL


def call_id(trace_id: bytes, span_id: bytes) -> str:
    """The event id of the call that a span tells of: however often it is exported, it is one fact."""
    return event_id("otlp", trace_id.hex(), span_id.hex())


def sound_ids(trace_id: bytes, span_id: bytes) -> str | None:
    """Which of the two ids is none, or None (W3C Trace Context: 16 and 8 bytes, not all zero)."""
    if len(trace_id) != TRACE_ID_BYTES or not any(trace_id):
        return "trace_id"
    return "span_id" if len(span_id) != SPAN_ID_BYTES or not any(span_id) else None


def call_of_span(span: Span, resource: Attributes, scope: str, operation: str) -> Draft:
    """The call that a span tells of; its ids must be sound."""
    draft = _call(span.attributes, resource, scope, operation, span.name)
    _place(draft, span.trace_id, span.span_id, span.start_ns, "start_time_unix_nano")
    if len(span.parent_span_id) == SPAN_ID_BYTES and any(span.parent_span_id):
        draft.item["parent_span_id"] = span.parent_span_id.hex()
    elif span.parent_span_id:
        draft.issue("parent_span_id", "is not 8 bytes")
    _put_latency(draft, span)
    _put_first_token(draft, span)
    _put_status(draft, span)
    return draft


def call_of_event(log: Log, resource: Attributes, scope: str, operation: str) -> Draft:
    """The call that an event tells of, where its span was not recorded. It has no duration."""
    draft = _call(log.attributes, resource, scope, operation, "")
    _place(draft, log.trace_id, log.span_id, log.time_ns, "time_unix_nano")
    error = _error_type(draft)
    draft.item["status"] = _status(error is not None, error, draft.item.get("finish_reason"))
    return draft


def put_service(draft: Draft) -> None:
    """Fix up who it was: the SDK's default service name is none."""
    if str(draft.item.get("app", "")).startswith("unknown_service"):
        del draft.item["app"]


def _call(attributes: Attributes, resource: Attributes, scope: str, operation: str, name: str) -> Draft:
    draft = Draft("call", (attributes, resource))
    draft.texts(names.TEXTS)
    draft.numbers(names.NUMBERS)
    draft.integers(names.INTEGERS)
    draft.booleans(names.BOOLEANS)
    draft.item["operation"] = operation
    put_service(draft)
    _put_invocation(draft)
    _put_model(draft, name)
    _put_provider(draft)
    _put_finish(draft)
    _put_params(draft)
    put_usage(draft, scope)
    put_cost(draft)
    _put_pool_seconds(draft)
    _put_shares(draft)
    return draft


def _place(draft: Draft, trace_id: bytes, span_id: bytes, at_ns: int, source: str) -> None:
    draft.item["event_id"] = call_id(trace_id, span_id)
    draft.item["trace_id"], draft.item["span_id"] = trace_id.hex(), span_id.hex()
    draft.item.setdefault("request_id", trace_id.hex())
    draft.put("occurred_at", at_ns // 1000, source)


def _put_latency(draft: Draft, span: Span) -> None:
    latency_ms = (span.end_ns - span.start_ns) / 1e6
    if span.end_ns == 0:
        draft.issue("end_time_unix_nano", "is not given")
        draft.flags.append("latency_invalid")
    elif not 0 <= latency_ms <= LONGEST_MS:
        draft.issue("end_time_unix_nano", "is before the start" if latency_ms < 0 else "is more than 30 days later")
        draft.flags.append("latency_invalid")
    else:
        draft.put("latency_ms", latency_ms, "end_time_unix_nano")


def _put_first_token(draft: Draft, span: Span) -> None:
    for keys, to_ms in ((names.FIRST_TOKEN_S, 1e3), (names.FIRST_TOKEN_MS, 1.0)):
        given = draft.number(keys)
        if given is not None:
            draft.put("ttft_ms", given[1] * to_ms, given[0])
            return
    at = draft.find(names.FIRST_TOKEN_AT)
    if at is not None:
        at_ns = _nanoseconds(at[1])
        if at_ns is None or at_ns < span.start_ns:
            draft.issue(at[0], "is no time after the start")
        else:
            draft.put("ttft_ms", (at_ns - span.start_ns) / 1e6, at[0])
        return
    first = min((each.time_ns for each in span.events if each.name in names.FIRST_TOKEN_EVENTS), default=0)
    if first >= span.start_ns and first:
        draft.put("ttft_ms", (first - span.start_ns) / 1e6, "events")


def _nanoseconds(value: Any) -> int | None:
    # Langfuse writes the time as a JSON string, quotes included.
    try:
        at = datetime.fromisoformat(str(value).strip('"'))
    except ValueError:
        return None
    return None if at.tzinfo is None else int(at.timestamp() * 1e6) * 1000


def _put_status(draft: Draft, span: Span) -> None:
    error = _error_type(draft)
    if error is None and span.status == _FAILED:
        for event in span.events:
            found = event.attributes.values.get("exception.type")
            if event.name == "exception" and isinstance(found, str) and found:
                error = found
        draft.item["error_type"] = error = (error or "_OTHER")[:_MAX_FINISH]
    draft.item["status"] = _status(span.status == _FAILED or error is not None, error, draft.item.get("finish_reason"))


def _error_type(draft: Draft) -> str | None:
    found = draft.find(names.ERROR[:1])
    if found is None:
        return None
    if not isinstance(found[1], str):
        draft.issue(found[0], "is not a string")
        return None
    draft.put("error_type", found[1], found[0])
    return found[1]


def _status(failed: bool, error: str | None, finish: str | None) -> str:
    if failed:
        lower = (error or "").lower()
        if "timeout" in lower or "timedout" in lower or "deadline" in lower:
            return "TIMEOUT"
        return "CANCELLED" if "cancel" in lower else "ERROR"
    return "FILTERED" if finish is not None and "content_filter" in finish else "OK"


def _put_invocation(draft: Draft) -> None:
    """OpenInference's parameters: one JSON text, of which the numbers, the model and the user are looked at."""
    found = draft.find(names.INVOCATION_PARAMETERS)
    if found is None:
        return
    try:
        given = orjson.loads(found[1]) if isinstance(found[1], str) else None
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        draft.issue(found[0], "is no JSON object")
        return
    model, user = given.get("model"), given.get("user")
    if isinstance(model, str) and model and draft.sources.get("request_model", names.ANSWERED_MODEL) in _LESS_SURE:
        if "request_model" in draft.item:
            draft.item.setdefault("response_model", draft.item["request_model"])
        draft.put("request_model", model, found[0])
    if isinstance(user, str) and user and "user" not in draft.item and "user_hash" not in draft.item:
        draft.put("user", user, found[0])
    for theirs, ours in _FROM_INVOCATION.items():
        value = given.get(theirs)
        if ours not in draft.item and isinstance(value, int | float) and not isinstance(value, bool):
            draft.put(ours, value if ours == "max_tokens" else float(value), found[0])


def _put_model(draft: Draft, name: str) -> None:
    if "request_model" in draft.item:
        return
    # The name of a span is "{operation} {model}" by the convention.
    operation, _, model = name.partition(" ")
    if model and operation.lower() in names.OPERATIONS:
        draft.put("request_model", model, "name")
        return
    draft.item["request_model"] = draft.item.get("response_model", UNKNOWN_NAME)
    draft.flags.append("request_model_missing")


def _put_provider(draft: Draft) -> None:
    found = draft.find(names.PROVIDER)
    if found is None or not isinstance(found[1], str):
        if found is not None:
            draft.issue(found[0], "is not a string")
        draft.item["provider"] = UNKNOWN_NAME
        draft.flags.append("provider_missing")
        return
    lower = found[1].strip().lower()
    draft.put("provider", names.PROVIDERS.get(lower, lower) or UNKNOWN_NAME, found[0])


def _put_finish(draft: Draft) -> None:
    found = draft.find(names.FINISH)
    if found is None:
        return
    source, value = found
    reasons = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, str) for each in reasons):
        draft.issue(source, "is no array of strings")
    elif reasons:
        # One for each choice; nearly always the same.
        draft.put("finish_reason", ",".join(dict.fromkeys(map(str, reasons)))[:_MAX_FINISH], source)


def _put_pool_seconds(draft: Draft) -> None:
    given = draft.number(names.POOL_SECONDS)
    if given is not None:
        draft.put("pool_seconds", given[1], given[0])


def _put_shares(draft: Draft) -> None:
    found = draft.find(names.SHARE)
    if found is None:
        return
    try:
        given = orjson.loads(found[1]) if isinstance(found[1], str) else None
    except orjson.JSONDecodeError:
        given = None
    if isinstance(given, dict):
        draft.put("shares", given, found[0])
    else:
        draft.issue(found[0], "is no JSON object")


def _put_params(draft: Draft) -> None:
    params = {}
    for name, keys in names.PARAMS.items():
        found = draft.find(keys)
        if found is not None and isinstance(found[1], str | int | float):
            params[name] = orjson.dumps(found[1]).decode()
    tier = draft.find(names.PARAMS["service_tier"])
    if tier is not None and isinstance(tier[1], str):
        draft.put("price_context", {"service_tier": word(tier[1])}, tier[0])
    labels = {}
    for name in names.LABELS:
        found = draft.find((name,))
        if found is not None and isinstance(found[1], str):
            labels[name] = found[1]
    draft.item.update({key: value for key, value in (("params", params), ("attributes", labels)) if value})
