"""Facts and entries as the codec gives them, a state over dictionaries, and a holder that keeps the rules."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from flywheel.budget import Budget, to_usd
from flywheel.events import Codec, LocalRegistry, event_id
from flywheel.stream import Event, RawRecord
from flywheel.testkit.dict_state import DictState

T0 = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
DAY = "2026-11-21T00:00:00Z"
TOPICS = {
    "decision": "llm-decisions",
    "llm_call": "llm-calls",
    "budget": "budgets",
    "budget_entry": "budget-ledger",
}
DAILY = Budget("acme", "day", 1, T0, 1_000, "day", scope=(("team", "cx"),), mode="hard")


class Facts:
    """Events with every field there; money in picodollars, times in seconds after ``T0``."""

    State = DictState

    def __init__(self) -> None:
        self._codec = Codec(LocalRegistry.load())

    def event(self, name: str, value: dict[str, Any], *, at_s: float = 0.0, offset: int = 0) -> Event:
        full = self._codec.decode(self._codec.encode(name, value)).value
        sent_ms = T0 // 1000 + round(at_s * 1000)
        return Event(RawRecord(TOPICS[name], 0, offset, sent_ms, b"", b""), name, 1, full)

    def decision(self, request: str, at_s: float, *reserved: tuple[str, int, int], n: int = 0, **more: Any) -> Event:
        """``reserved``: account, bound and cumulative in the daily budget."""
        made = [
            {"budget": DAILY.key, "window": DAY, "account": a, "bound_usd": to_usd(b), "cumulative_usd": to_usd(c)}
            for a, b, c in reserved
        ]
        value = {
            "event_id": event_id("decision", request, n), "project": "acme", "request_id": request,
            "occurred_at": T0 + round(at_s * 1e6), "team": "cx", "policy": "p", "policy_version": 1,
            "policy_kind": "static", "arm": "a", "propensity": 1.0, "reason": "policy", "decider": "router",
            "reservations": made,
        }  # fmt: skip
        return self.event("decision", {**value, **more}, at_s=at_s)

    def call(self, request: str, at_s: float, cost: int | None, *, n: int = 0, **more: Any) -> Event:
        value = {
            "event_id": event_id("call", request, n), "project": "acme", "request_id": request,
            "occurred_at": T0 + round(at_s * 1e6), "team": "cx", "provider": "openai", "request_model": "gpt-4o",
            "cost_usd": None if cost is None else to_usd(cost), "status": "OK", "input_tokens": 10,
        }  # fmt: skip
        return self.event("llm_call", {**value, **more}, at_s=at_s)

    def definition(self, budget: Budget, at_s: float = 0.0) -> Event:
        terms = budget.terms()
        return self._entry(budget, at_s, kind="definition", instance=budget.key, terms=terms)

    def request(
        self, account: str, seq: int, reserved: int, wanted: int, *, need: int = 0, at_s: float = 0.0, **more: Any
    ) -> Event:
        budget = more.pop("budget", DAILY)
        value = {
            "kind": "request", "instance": budget.key, "account": account, "holder": account.partition(".")[0],
            "incarnation": "1", "seq": seq, "reserved_usd": to_usd(reserved), "limit_wanted_usd": to_usd(wanted),
            "need_usd": to_usd(need),
        }  # fmt: skip
        return self._entry(budget, at_s, **{**value, **more})

    def spend(
        self, account: str, version: int, spent: int, settled: int = 0, *, at_s: float = 0.0, **more: Any
    ) -> Event:
        budget = more.pop("budget", DAILY)
        value = {
            "kind": "spend", "instance": budget.key, "window": DAY, "account": account, "source": "spend/0",
            "version": version, "spent_usd": to_usd(spent), "settled_usd": to_usd(settled), "calls": version,
        }  # fmt: skip
        return self._entry(budget, at_s, **{**value, **more})

    def _entry(self, budget: Budget, at_s: float, **fields: Any) -> Event:
        value = {
            "event_id": "e", "project": budget.project, "budget": budget.name, "occurred_at": T0 + round(at_s * 1e6),
        }  # fmt: skip
        return self.event("budget_entry", {**value, **fields}, at_s=at_s)


def pico(amount: Decimal) -> int:
    return int(amount.scaleb(12))


def at_offset(event: Event, offset: int) -> Event:
    return event._replace(raw=event.raw._replace(offset=offset))


@pytest.fixture(scope="session")
def facts() -> Facts:
    return Facts()


@pytest.fixture
def daily() -> Budget:
    return replace(DAILY)
