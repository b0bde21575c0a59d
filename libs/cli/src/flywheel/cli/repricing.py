"""Prices the calls of a period again: what ClickHouse has of them, by other tables, to events on ``llm-reprices``.

No row is ever changed. A newer cost is a fact of its own, with a revision; views show the one with the largest beside
the cost of arrival. What learns from costs as they come (the bandit) or counts them (budgets) reads ``llm-calls``
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from flywheel.cli.periods import within
from flywheel.cli.questions import Rows
from flywheel.events import event_id
from flywheel.pricing import BUCKETS, PriceBook, PricedCall
from flywheel.pricing.again import ArrivedCall, Verdict, price_again
from flywheel.store import quoted

PAGE: Final = 10_000
TOPIC: Final = "llm-reprices"
EVENT: Final = "reprice"
_COUNTS: Final = ("input_tokens", "output_tokens", *BUCKETS)
_PLAIN: Final = (
    *("event_id", "project", "request_id", "provider", "request_model", "response_model"),
    *("flags", "price_context", *_COUNTS),
)
Ask = Callable[[str], Rows]


@dataclass(frozen=True, slots=True)
class Reprice:
    """One call looked at: what became of it, and the event where it has a newer cost."""

    provider: str
    model: str
    verdict: Verdict
    before_usd: Decimal | None
    after_usd: Decimal | None
    event: dict[str, Any] | None = None


@dataclass(slots=True)
class Sums:
    """What the calls of one model, or all, came to before and after."""

    calls: int = 0
    before_usd: Decimal = Decimal(0)
    after_usd: Decimal = Decimal(0)
    unpriced_before: int = 0
    unpriced_after: int = 0
    verdicts: dict[Verdict, int] = field(default_factory=dict)

    def add(self, one: Reprice) -> None:
        """Count one call."""
        self.calls += 1
        self.before_usd += one.before_usd or 0
        self.after_usd += one.after_usd or 0
        self.unpriced_before += one.before_usd is None
        self.unpriced_after += one.after_usd is None
        self.verdicts[one.verdict] = self.verdicts.get(one.verdict, 0) + 1


def reprices(ask: Ask, prices: PriceBook, start_us: int, stop_us: int, *, now_us: int) -> Iterator[list[Reprice]]:
    """The calls of a period, a page at a time, priced by ``prices``; ``now_us`` is when, in microseconds."""
    after = ""
    while True:
        rows = ask(_query(start_us, stop_us, after)).dicts()
        if not rows:
            return
        yield [_reprice(row, prices, now_us) for row in rows]
        start_us, last_id = rows[-1]["at_us"], rows[-1]["event_id"]
        after = f" AND (toUnixTimestamp64Micro(occurred_at), event_id) > ({start_us}, {quoted(last_id)})"


def _query(start_us: int, stop_us: int, after: str) -> str:
    period = within(start_us, stop_us)
    newest = (
        "SELECT project, occurred_at, call_id, max(v_reprices.revision) AS revision,"
        " argMax((toString(cost_usd), toString(cost_source)), (v_reprices.revision, repriced_at, event_id)) AS cost"
        f" FROM v_reprices WHERE {period} GROUP BY project, occurred_at, call_id"
    )
    calls = (
        f"SELECT {', '.join(_PLAIN)}, occurred_at, pool_seconds, cost_usd, cost_source FROM v_calls"
        f" WHERE {period}{after} ORDER BY occurred_at, event_id LIMIT {PAGE}"
    )
    anew = "ifNull(r.revision, 0) > 0"
    return (
        f"SELECT {', '.join(f'c.{name} AS {name}' for name in _PLAIN)},"
        " toUnixTimestamp64Micro(c.occurred_at) AS at_us, toString(c.pool_seconds) AS pool_seconds,"
        f" if({anew}, r.cost.1, toString(c.cost_usd)) AS cost, if({anew}, r.cost.2, toString(c.cost_source)) AS source,"
        f" ifNull(r.revision, 0) AS revision FROM ({calls}) AS c LEFT ANY JOIN ({newest}) AS r"
        " ON c.project = r.project AND c.occurred_at = r.occurred_at AND c.event_id = r.call_id"
        " ORDER BY c.occurred_at, c.event_id"
    )


def _reprice(row: dict[str, Any], prices: PriceBook, now_us: int) -> Reprice:
    before = None if row["cost"] is None else Decimal(row["cost"])
    call = ArrivedCall(
        provider=row["provider"],
        models=(row["response_model"], row["request_model"]),
        at_us=row["at_us"],
        counts={name: row[name] for name in _COUNTS},
        cost_usd=before,
        cost_source=row["source"],
        flags=tuple(row["flags"]),
        context=tuple(row["price_context"].items()),
        pool_seconds=None if row["pool_seconds"] is None else Decimal(row["pool_seconds"]),
    )
    verdict, priced = price_again(call, prices)
    model = row["response_model"] or row["request_model"]
    if verdict != "changed" or priced is None:
        return Reprice(row["provider"], model, verdict, before, before)
    event = _event(row, priced, before, now_us)
    return Reprice(row["provider"], model, verdict, before, priced.cost_usd, event)


def _event(row: dict[str, Any], priced: PricedCall, before: Decimal | None, now_us: int) -> dict[str, Any]:
    revision, rates = row["revision"] + 1, priced.rates
    identity = (row["project"], row["event_id"], revision, priced.price_version or "", str(priced.cost_usd))
    return {
        "event_id": event_id(EVENT, *identity),
        "project": row["project"],
        "request_id": row["request_id"],
        "occurred_at": row["at_us"],
        "call_id": row["event_id"],
        "revision": revision,
        "repriced_at": now_us,
        "cost_usd": priced.cost_usd,
        "cost_source": priced.cost_source,
        "price_source": priced.price_source,
        "price_version": priced.price_version,
        "price_model": None if rates is None else rates.model,
        "price_above_tokens": None if rates is None else rates.above_tokens,
        "previous_usd": before,
        "flags": list(priced.flags),
    }
