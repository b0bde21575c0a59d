"""Which decoded rows are absurd, and so never reach a view: one list of rules, read by SQL and by Python alike.

Avro holds types, not sense: a count below zero, a share above one, a NaN or a call from next year are well-formed. The
engine applies the rules to a whole batch in one pass; Python applies the same rules to the few rows the engine named,
to say which field is at fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal

Kind = Literal["text", "count", "finite", "not_negative", "share", "money", "instant", "event_time"]
Form = Literal["value", "items", "map", "nested"]

EARLIEST_US: Final = 946_684_800_000_000
"""2000-01-01: an event from before that is a clock that was never set."""
LEAD_US: Final = 86_400_000_000
"""How far an event may be ahead of the broker's timestamp: one day."""

_COUNTS: Final = frozenset(
    {"tool_calls", "web_searches", "calls", "errors", "attempt", "revision", "outcomes", "policy_version"}
)
_SHARES: Final = frozenset({"propensity", "propensities", "sample_prob", "explore_floor", "epsilon"})
_NOT_NEGATIVE: Final = frozenset({"latency_ms", "ttft_ms", "propensity_error", "stale_after_s"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one field must satisfy. NULL always does."""

    field: str
    kind: Kind
    form: Form
    nullable: bool
    limit: int = 0

    def sql(self, broker_us: str) -> str:
        """The rule as a ClickHouse condition over the staged column; ``broker_us`` is the record's timestamp in µs."""
        column = f"`{self.field}`"
        if self.form == "value":
            condition = _SQL[self.kind](column, self.limit, broker_us)
            return f"ifNull({condition}, true)" if self.nullable else condition
        values = column if self.form == "items" else f"mapValues({column})"
        return f"arrayAll(x -> {_SQL[self.kind]('x', self.limit, broker_us)}, {values})"

    def problem(self, value: Any, broker_us: int) -> str | None:
        """What is wrong with a decoded value, in words, or None."""
        if value is None or self.form == "nested":
            return None
        values: Iterable[Any] = (value,)
        if self.form != "value":
            values = value.values() if self.form == "map" else value
        return next((p for v in values if (p := _PYTHON[self.kind](v, self.limit, broker_us)) is not None), None)


_SQL: Final[Mapping[str, Callable[[str, int, str], str]]] = MappingProxyType(
    {
        "count": lambda x, _limit, _broker: f"{x} >= 0",
        "finite": lambda x, _limit, _broker: f"isFinite({x})",
        "not_negative": lambda x, _limit, _broker: f"(isFinite({x}) AND {x} >= 0)",
        "share": lambda x, _limit, _broker: f"({x} >= 0 AND {x} <= 1)",
        "money": lambda x, limit, _broker: f"({x} >= 0 AND {x} < toDecimal256('{10**limit}', 12))",
        "instant": lambda x, _limit, _broker: f"toUnixTimestamp64Micro({x}) >= {EARLIEST_US}",
        "event_time": lambda x, _limit, broker: (
            f"(toUnixTimestamp64Micro({x}) >= {EARLIEST_US}"
            f" AND ({broker} <= 0 OR toUnixTimestamp64Micro({x}) <= {broker} + {LEAD_US}))"
        ),
    }
)


def _event_time(value: int, broker_us: int) -> str | None:
    if value < EARLIEST_US:
        return "before the year 2000"
    if broker_us > 0 and value > broker_us + LEAD_US:
        return "more than a day ahead of the broker's clock"
    return None


_PYTHON: Final[Mapping[str, Callable[[Any, int, int], str | None]]] = MappingProxyType(
    {
        "text": lambda _v, _limit, _broker: None,  # the codec has refused text that is not UTF-8
        "count": lambda v, _limit, _broker: None if v >= 0 else f"{v} is below zero",
        "finite": lambda v, _limit, _broker: None if math.isfinite(v) else f"{v} is not a finite number",
        "not_negative": lambda v, _limit, _broker: (
            None if math.isfinite(v) and v >= 0 else f"{v} is not a finite number of at least zero"
        ),
        "share": lambda v, _limit, _broker: None if 0 <= v <= 1 else f"{v} is not between 0 and 1",
        "money": lambda v, limit, _broker: None if 0 <= v < Decimal(10) ** limit else f"{v} is not a price",
        "instant": lambda v, _limit, _broker: None if v >= EARLIEST_US else "before the year 2000",
        "event_time": lambda v, _limit, broker: _event_time(v, broker),
    }
)


def rules_of(schema: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Derive the rules of an event from its Avro schema: every text, number, sum of money and time has one."""
    return tuple(rule for field in schema["fields"] if (rule := _rule(field["name"], field["type"])) is not None)


def condition(rules: Sequence[Rule], broker_us: str) -> str:
    """All rules as one SQL condition.

    Text and counts are checked together: the engine spends longer on understanding sixty conditions than on a thousand
    rows of them.
    """
    texts = [f"`{r.field}`" for r in rules if r.kind == "text" or r.form == "map"]
    counts = [r for r in rules if r.kind == "count"]
    together = {r.field for r in counts} if len(counts) > 1 else set()
    parts = [f"isValidUTF8(toString(tuple({', '.join(texts)})))"] if texts else []
    if together:
        parts.append(f"ifNull(least({', '.join(f'`{r.field}`' for r in counts)}), 0) >= 0")
    parts += [r.sql(broker_us) for r in rules if r.kind != "text" and r.field not in together]
    return " AND ".join(parts)


def first_problem(rules: Sequence[Rule], value: Mapping[str, Any], broker_us: int) -> tuple[str, str] | None:
    """Return the first field at fault and what is wrong with it, or None when the event makes sense."""
    for rule in rules:
        problem = rule.problem(value.get(rule.field), broker_us)
        if problem is not None:
            return rule.field, problem
    return None


def _rule(name: str, declared: Any) -> Rule | None:
    nullable = isinstance(declared, list)
    avro = next(t for t in declared if t != "null") if nullable else declared
    form: Form = "value"
    if isinstance(avro, dict) and avro["type"] in ("array", "map"):
        form = "items" if avro["type"] == "array" else "map"
        avro = avro["items"] if form == "items" else avro["values"]
        if isinstance(avro, dict) and avro["type"] == "record":
            return Rule(name, "text", "nested", nullable)
    kind = _kind(name, avro)
    if kind is None:
        return None
    limit = avro["precision"] - avro["scale"] if kind == "money" else 0
    return Rule(name, kind, form, nullable, limit)


def _kind(name: str, avro: Any) -> Kind | None:
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    if logical == "decimal":
        return "money"
    if logical == "timestamp-micros":
        return "event_time" if name == "occurred_at" else "instant"
    if avro == "string":
        return "text"
    if avro in ("int", "long"):
        return "count" if name in _COUNTS or name.endswith("_tokens") else None
    if avro == "double":
        return "share" if name in _SHARES else "not_negative" if name in _NOT_NEGATIVE else "finite"
    return None
