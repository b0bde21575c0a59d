"""The shell around the core: prices, the time on the ledger, counting what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from flywheel.events import event_id
from flywheel.observe import Metrics
from flywheel.pricing import PriceBook, price_call
from flywheel.stream import Output
from flywheel_controller.core import LEDGER

TYPICAL: Final[Mapping[str, int]] = {"input_tokens": 1000, "output_tokens": 300}
"""What a call is assumed to use when arms are compared by price."""


class Prices:
    """What a typical call of a model costs by a price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def __call__(self, model: str, at_us: int) -> float | None:
        """Return US dollars at a time, None where no price is known."""
        provider, _, name = model.partition("/")
        if not name:
            return None
        priced = price_call(dict(TYPICAL), self._book, provider=provider, models=[name], at_us=at_us)
        cost: Decimal | None = priced.cost_usd
        return None if cost is None else float(cost)


def tick(number: int, keys: Sequence[str], now_us: int) -> Output:
    """Return the time for the ``number``-th partition of the ledger, of which ``keys`` each choose one."""
    value = {"event_id": event_id("tick", number, now_us), "project": "", "occurred_at": now_us, "kind": "tick"}
    return Output(LEDGER, keys[number], "control_entry", value)


def count_output(metrics: Metrics, output: Output) -> None:
    """Count what comes out."""
    if output.event == "action":
        value = output.value
        metrics.count("actions_total", 1, kind=value["kind"], state=value["state"])
