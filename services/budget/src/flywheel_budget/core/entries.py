"""Entries of the ledger as checked values: what holders and shards say is input like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from flywheel.budget import to_pico, window_start
from flywheel.events import event_id
from flywheel.stream import Output, Reject
from flywheel_budget.core.pools import SpendRow

LEDGER: Final = "budget-ledger"
TICK: Final = "tick"
MAX_NAME: Final = 4096
_MOST: Final = 10**9 * 10**12


class Asked(NamedTuple):
    """A holder's request about one account, in picodollars."""

    instance: str
    window: str
    account: str
    holder: str
    seq: int
    reserved: int
    wanted: int
    need: int
    closing: bool


class Spent(NamedTuple):
    """A shard's row."""

    instance: str
    window: str
    account: str
    source: str
    row: SpendRow


def tick_entry(number: int, keys: Sequence[str], now_us: int) -> Output:
    """Return the time for one of the ledger's partitions, of which ``keys`` each choose one. The guard's clock is the
    broker's, on any entry: this one is there where nothing else comes."""
    value = {
        "event_id": event_id("tick", number, now_us), "project": "", "budget": "", "occurred_at": now_us, "kind": TICK,
    }  # fmt: skip
    return Output(LEDGER, keys[number], "budget_entry", value)


def asked(value: Mapping[str, Any]) -> Asked | Reject:
    """Return the request of a ``budget_entry``."""
    problem = _names(value, ("instance", "account", "holder"))
    if problem is not None:
        return problem
    if value["window"] and window_start(value["window"]) is None:
        return Reject("out_of_range", "window", "must be empty or like 2026-11-21T00:00:00Z")
    money = _money(value, ("reserved_usd", "limit_wanted_usd", "need_usd"))
    if isinstance(money, Reject):
        return money
    reserved, wanted, need = money
    if value["seq"] < 1:
        return Reject("out_of_range", "seq", "starts at 1")
    if wanted < reserved:
        return Reject("out_of_range", "limit_wanted_usd", "must not be below reserved_usd")
    return Asked(
        value["instance"], value["window"], value["account"], value["holder"], value["seq"], reserved, wanted, need,
        value["closing"],
    )  # fmt: skip


def spent(value: Mapping[str, Any]) -> Spent | Reject:
    """Return the row of a ``budget_entry``."""
    problem = _names(value, ("instance", "source"))
    if problem is not None:
        return problem
    if len(value["account"]) > MAX_NAME:
        return Reject("out_of_range", "account", f"at most {MAX_NAME} characters")
    if window_start(value["window"]) is None:
        return Reject("out_of_range", "window", "must be like 2026-11-21T00:00:00Z")
    money = _money(value, ("spent_usd", "settled_usd"))
    if isinstance(money, Reject):
        return money
    for name in ("version", "calls", "unpriced", "above_bound"):
        if value[name] < 0:
            return Reject("out_of_range", name, "must not be negative")
    cost, settled = money
    row = SpendRow(value["version"], cost, settled, value["calls"], value["unpriced"], value["above_bound"])
    return Spent(value["instance"], value["window"], value["account"], value["source"], row)


def _names(value: Mapping[str, Any], fields: tuple[str, ...]) -> Reject | None:
    for name in fields:
        if not 0 < len(value[name]) <= MAX_NAME or not value[name].isprintable():
            return Reject("out_of_range", name, f"must be 1 to {MAX_NAME} printable characters")
    key = f"{value['project']}/{value['budget']}"
    if value["instance"] != key and not value["instance"].startswith(f"{key}/"):
        return Reject("out_of_range", "instance", f"must be {key}, or begin with it and a slash")
    return None


def _money(value: Mapping[str, Any], fields: tuple[str, ...]) -> list[int] | Reject:
    found: list[int] = []
    for name in fields:
        amount: Decimal | None = value[name]
        if amount is None or not 0 <= (pico := to_pico(amount)) <= _MOST:
            return Reject("out_of_range", name, "must be given, from 0 to 1000000000")
        found.append(pico)
    return found
