"""What the monitor's tests are made of: facts with defaults, and tables that are dictionaries."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from flywheel_monitor.core.alerting import Standing
from flywheel_monitor.core.fold import Slot
from flywheel_monitor.core.series import Series

NOW_US = 1_795_219_200_000_000


class DictTables:
    """`monitor.Kept` over dictionaries."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = range(partitions)
        self.windows: dict[Slot, dict[str, Any]] = {}
        self.stood: dict[str, Standing] = {}

    def get(self, slot: Slot) -> dict[str, Any] | None:
        return self.windows.get(slot)

    def put(self, slot: Slot, record: dict[str, Any]) -> None:
        self.windows[slot] = record

    def sweep(self, now_us: int) -> set[Series]:
        self.windows = {slot: each for slot, each in self.windows.items() if slot.grain.keeps(slot.start_us, now_us)}
        return {slot.series for slot in self.windows}

    def standings(self) -> dict[str, Standing]:
        return dict(self.stood)

    def stand(self, name: str, standing: Standing | None) -> None:
        if standing is None:
            self.stood.pop(name, None)
        else:
            self.stood[name] = Standing.of(standing.record())

    def __len__(self) -> int:
        return len(self.windows)


def make_call(**otherwise: Any) -> dict[str, Any]:
    """A good call of arm ``a`` of ``acme/answers``, as the codec gives it; what is named is otherwise."""
    return {
        "project": "acme", "feature": "answers", "variant": "a", "occurred_at": NOW_US, "shadow": False,
        "status": "OK", "attempt": 1, "input_tokens": 100, "output_tokens": 20, "cost_usd": Decimal("0.002"),
        "latency_ms": 200.0, "ttft_ms": None,
    } | otherwise  # fmt: skip


def make_decision(**otherwise: Any) -> dict[str, Any]:
    """A decision for arm ``a`` of ``acme/answers``; what is named is otherwise."""
    return {
        "project": "acme", "feature": "answers", "arm": "a", "occurred_at": NOW_US, "fallback": False,
        "downgraded_from": None, "control": None,
    } | otherwise  # fmt: skip
