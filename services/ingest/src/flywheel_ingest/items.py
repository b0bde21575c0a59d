"""What an item of a batch may hold: the event's Avro schema, plus limits, as a compiled validator and as JSON Schema.

The ``.avsc`` is the source, so a field added there is accepted here without a change. Validation is pydantic-core's on
plain dicts: no model object is made per item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

KindName = Literal["call", "feedback", "evaluation"]

MAX_STRING: Final = 256
MAX_ENTRIES: Final = 64
MAX_KEY: Final = 128
MAX_VALUE: Final = 4096
MAX_ERRORS: Final = 10
MOST_TOKENS: Final = 1_000_000_000
LONGEST_MS: Final = 30 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that an operator may move: bytes of one item as JSON, and how far ahead an event may claim to be."""

    max_item_bytes: int = 448 << 10
    max_future_us: int = 600_000_000


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong, and where: ``field`` is a path inside the item, e.g. ``attributes.plan``. Never a value."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of item: its route, event and topic, and what is not in the event's schema."""

    name: KindName
    event: str
    topic: str
    path: str
    extra: Mapping[str, str]
    required: frozenset[str]


_USER: Final = {"user": "The user's own id. Hashed with a key on arrival and never written; not beside user_hash."}
_TEXTS: Final = {
    "input_text": "What was sent to the model. Goes to its own topic with short retention.",
    "output_text": "What it answered. Goes to its own topic with short retention.",
}
_USAGE: Final = {"usage": "The provider's raw usage object, or an SDK's; instead of counts by our names."}
_ALWAYS: Final = frozenset({"request_id", "occurred_at"})
CONTENT_TOPIC: Final = "llm-content"
CONTENT_EVENT: Final = "call_content"
KINDS: Final[Mapping[KindName, Kind]] = {
    "call": Kind(
        "call",
        "llm_call",
        "llm-calls",
        "/v1/calls",
        {**_USER, **_USAGE, **_TEXTS},
        _ALWAYS | {"provider", "request_model"},
    ),
    "feedback": Kind("feedback", "feedback", "llm-feedback", "/v1/feedback", _USER, _ALWAYS | {"kind"}),
    "evaluation": Kind(
        "evaluation", "evaluation", "llm-evaluations", "/v1/evaluations", _USER, _ALWAYS | {"evaluator"}
    ),
}

SET_BY_INGEST: Final = frozenset(
    {"received_at", "flags", "price_source", "price_model", "price_above_tokens", "computed_usd"}
)
_DECIMALS: Final = frozenset({"cost_usd", "judge_cost_usd", "pool_seconds"})
_FRACTION: Final = {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]}

_HEX_32: Final = "^[0-9a-f]{32}$"
_HEX_16: Final = "^[0-9a-f]{16}$"
# Visible ASCII, so that an id can be written in a header, a URL and a log line.
_ID: Final = "^[!-~]+$"
# A slash would make the key project/feature ambiguous.
_NAME: Final = r"^[^/\x00-\x1f\x7f]+$"
_PATTERNS: Final = {
    "event_id": _ID,
    "project": _NAME,
    "trace_id": _HEX_32,
    "span_id": _HEX_16,
    "parent_span_id": _HEX_16,
    "user_hash": "^[!-~]+$",
}
_MAX_LENGTHS: Final = {"event_id": 128, "user": 1024, "comment": 4096, "explanation": 8192}
_MAY_BE_EMPTY: Final = frozenset({"comment", "explanation", "input_text", "output_text"})
_UNBOUNDED: Final = frozenset({"input_text", "output_text"})
_UNIT: Final = (0.0, 1.0)
_FLOATS: Final = {
    "temperature": (0.0, 100.0),
    "top_p": _UNIT,
    "latency_ms": (0.0, LONGEST_MS),
    "ttft_ms": (0.0, LONGEST_MS),
    "propensity": _UNIT,
    "doubt_raw": _UNIT,
    "doubt": _UNIT,
    "escalation_propensity": _UNIT,
    "value": _UNIT,
    "score": _UNIT,
    "sample_prob": _UNIT,
    "golden_score": _UNIT,
}
_INTEGERS: Final = {"attempt": (1, 10_000), "policy_version": (0, 2**62), "tool_calls": (0, 1_000_000)}

# What people call these fields elsewhere (OpenAI's and OpenTelemetry's names), to say what was probably meant.
_KNOWN_AS: Final = {
    "id": "event_id",
    "timestamp": "occurred_at",
    "time": "occurred_at",
    "model": "request_model",
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cached_tokens": "cache_read_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_5m_tokens",
    "reasoning_output_tokens": "reasoning_tokens",
    "cost": "cost_usd",
    "latency": "latency_ms",
    "duration_ms": "latency_ms",
    "user_id": "user",
    "prompt": "input_text",
    "completion": "output_text",
    "metadata": "attributes",
    "rating": "value",
    "name": "evaluator",
}


class ItemRules:
    """The compiled rules of one kind of item."""

    def __init__(self, kind: Kind, avsc: Mapping[str, Any]) -> None:
        self.kind = kind
        self.core_schema = _item_schema(kind, avsc)
        self.fields = frozenset(self.core_schema["fields"])
        self.enums = _fields_of(avsc, "enum")
        self.maps = _fields_of(avsc, "map")
        self.validate: Callable[[object], dict[str, Any]] = SchemaValidator(self.core_schema).validate_python

    def crowded(self, item: object) -> FieldError | None:
        """What has more entries than any valid item, found before validation would list every one of them."""
        if type(item) is not dict:
            return None
        if len(item) > len(self.fields):
            unknown = next(name for name in item if name not in self.fields)
            return FieldError(_shortened(unknown), f"no such field; the item has {len(item)} fields")
        for name in self.maps:
            entries = item.get(name)
            if type(entries) is dict and len(entries) > MAX_ENTRIES:
                return FieldError(name, f"has {len(entries)} entries, at most {MAX_ENTRIES}")
        return None

    def explain(self, error: ValidationError, *, suggesting: bool = True) -> tuple[FieldError, ...]:
        """The errors of an item, at most ``MAX_ERRORS``, without the values that caused them. ``suggesting`` what an
        unknown field was meant to be costs a quarter of a millisecond each."""
        found = error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
        return tuple(self._explain_one(each["type"], each["loc"], each["msg"], suggesting) for each in found)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of one item."""
        return {"title": f"{self.kind.name.capitalize()}Item", **GenerateJsonSchema().generate(self.core_schema)}

    def _explain_one(self, error_type: str, loc: tuple[str | int, ...], message: str, suggesting: bool) -> FieldError:
        path = [str(part) for part in loc if part != "[key]"]
        field = ".".join(map(_shortened, path))
        if error_type == "extra_forbidden":
            return FieldError(field, self._unknown(path[0]) if suggesting else "no such field")
        if error_type == "missing":
            return FieldError(field, "is required")
        if error_type == "dict_type" and not path:
            return FieldError("", "an item is a JSON object")
        return FieldError(field, message)

    def _unknown(self, name: str) -> str:
        if name in SET_BY_INGEST:
            return "is set by ingest; leave it out"
        meant = _KNOWN_AS.get(name)
        if meant not in self.fields:
            close = get_close_matches(name[:MAX_KEY], sorted(self.fields), n=1, cutoff=0.75)
            meant = close[0] if close else None
        return f"no such field; did you mean {meant}?" if meant else "no such field"


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_KEY else f"{name[:MAX_KEY]}…"


def _fields_of(avsc: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return tuple(f["name"] for f in avsc["fields"] if isinstance(f["type"], dict) and f["type"].get("type") == kind)


def _item_schema(kind: Kind, avsc: Mapping[str, Any]) -> CoreSchema:
    fields: dict[str, cs.TypedDictField] = {}
    for field in avsc["fields"]:
        name = field["name"]
        if name in SET_BY_INGEST:
            continue
        required = name in kind.required
        schema = _field_schema(name, field["type"])
        fields[name] = _documented(schema if required else cs.nullable_schema(schema), field["doc"], required=required)
    for name, doc in kind.extra.items():
        schema = _checked_later(type="object") if name in _USAGE else _string(name)
        fields[name] = _documented(cs.nullable_schema(schema), doc, required=False)
    return cs.typed_dict_schema(fields, extra_behavior="forbid", strict=True)


def _documented(schema: CoreSchema, doc: str, *, required: bool) -> cs.TypedDictField:
    return cs.typed_dict_field(schema, required=required, metadata={"pydantic_js_updates": {"description": doc}})


def _field_schema(name: str, avro: Any) -> CoreSchema:
    if name == "occurred_at":
        return _checked_later(
            anyOf=[{"type": "string", "format": "date-time"}, {"type": "integer", "description": "microseconds"}]
        )
    if name in _DECIMALS:
        return _checked_later(anyOf=[{"type": "string", "format": "decimal"}, {"type": "number", "minimum": 0}])
    if name == "shares":
        return _checked_later(type="object", additionalProperties=_FRACTION, maxProperties=MAX_ENTRIES)
    if isinstance(avro, list):
        return _field_schema(name, next(branch for branch in avro if branch != "null"))
    if isinstance(avro, dict):
        return _complex_schema(name, avro)
    match avro:
        case "string":
            return _string(name)
        case "long" | "int":
            low, high = _INTEGERS.get(name, (0, MOST_TOKENS))
            return cs.int_schema(strict=True, ge=low, le=high)
        case "double":
            least, most = _FLOATS.get(name, (None, None))
            return cs.float_schema(strict=True, ge=least, le=most, allow_inf_nan=False)
        case "boolean":
            return cs.bool_schema(strict=True)
        case _:
            raise ValueError(f"{name}: no rule for the Avro type {avro!r}")


def _complex_schema(name: str, avro: Mapping[str, Any]) -> CoreSchema:
    match avro["type"]:
        case "enum":
            symbols = list(avro["symbols"])
            return cs.literal_schema([*symbols, *(symbol.lower() for symbol in symbols)])
        case "map":
            key = cs.str_schema(min_length=1, max_length=MAX_KEY, strict=True)
            value = cs.str_schema(max_length=MAX_VALUE, strict=True)
            return cs.dict_schema(key, value, max_length=MAX_ENTRIES, strict=True)
        case other:
            return _field_schema(name, other)


def _checked_later(**json_schema: Any) -> CoreSchema:
    """A value whose check needs more than a schema can say; the core does it."""
    return cs.any_schema(metadata={"pydantic_js_updates": json_schema})


def _string(name: str) -> CoreSchema:
    return cs.str_schema(
        strict=True,
        min_length=0 if name in _MAY_BE_EMPTY else 1,
        max_length=None if name in _UNBOUNDED else _MAX_LENGTHS.get(name, MAX_STRING),
        pattern=_PATTERNS.get(name),
    )
