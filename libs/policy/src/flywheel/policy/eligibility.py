"""Which arms may serve a request: rules on its declared context, compiled once per policy.

A field the request does not carry (or carries as null) makes every rule on it false, except ``absent``. Values of
different types are unequal and never ordered: a number is never compared with a text, and true is not 1.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

Value = str | float | int | bool | None
Rule = Callable[[Mapping[str, Value]], bool]

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def compile_rule(rule: Mapping[str, Any]) -> Rule:
    """Return a predicate for an ``EligibilityRule`` of a policy event.

    Raises ``ValueError`` naming the field when the operator is unknown or the value is not JSON.
    """
    field, name = rule["field"], rule["operator"]
    try:
        value = json.loads(rule["value"]) if rule["value"] else None
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"eligible_when.{field}: value is not JSON") from error
    if name == "exists":
        return lambda context: context.get(field) is not None
    if name == "absent":
        return lambda context: context.get(field) is None
    if name in ("eq", "ne", "in", "not_in"):
        items = value if name in ("in", "not_in") and isinstance(value, list) else [value]
        wanted = frozenset(_key(item) for item in items)
        if name in ("eq", "in"):
            return lambda context: _key(context.get(field)) in wanted
        return lambda context: (found := context.get(field)) is not None and _key(found) not in wanted
    if name in _ORDERS:
        return _ordered(field, _ORDERS[name], value)
    raise ValueError(f"eligible_when.{field}: unknown operator {name!r}")


def _key(value: Any) -> tuple[str, Any]:
    """Keep booleans, numbers and texts apart, and let 1 equal 1.0."""
    if isinstance(value, bool):
        return "bool", value
    return ("number", value) if isinstance(value, (int, float)) else ("text", value)


def _ordered(field: str, compare: Callable[[Any, Any], bool], bound: Any) -> Rule:
    numeric = isinstance(bound, (int, float)) and not isinstance(bound, bool)

    def holds(context: Mapping[str, Value]) -> bool:
        found = context.get(field)
        if numeric:
            return isinstance(found, (int, float)) and not isinstance(found, bool) and compare(found, bound)
        return isinstance(found, str) and isinstance(bound, str) and compare(found, bound)

    return holds
