"""Who pays for what: sums of a period by team and other dimensions, held against the sum of all calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from flywheel.cli.periods import within
from flywheel.cli.questions import Rows

DIMENSIONS: Final = MappingProxyType(
    {
        "team": ("team",),
        "project": ("project",),
        "app": ("app",),
        "feature": ("feature",),
        "user": ("user_hash",),
        "environment": ("environment",),
        "prompt": ("prompt_name", "prompt_version"),
        "provider": ("provider",),
        "model": ("model",),
    }
)
"""What ``--by`` takes, and the columns behind it."""


class NotTheWhole(RuntimeError):
    """The parts do not add up to the whole: calls arrived between the two questions."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One row: calls (a shared one counts by its part), cost (None where no call has one), tokens."""

    names: tuple[str | None, ...]
    calls: Decimal
    unpriced: Decimal
    cost_usd: Decimal | None
    input_tokens: int
    output_tokens: int

    @property
    def unpriced_share(self) -> float | None:
        """Of the calls, those whose cost is not known; None where there are none."""
        return float(self.unpriced / self.calls) if self.calls else None


@dataclass(frozen=True, slots=True)
class Showback:
    """All rows, the dearest first, and the whole."""

    columns: tuple[str, ...]
    bills: tuple[Bill, ...]
    total: Bill


_ONE: Final = "toDecimal64(1, 9)"


def showback(ask: Callable[[str], Rows], start_us: int, stop_us: int, by: Sequence[str]) -> Showback:
    """The sums of a period; ``by`` are keys of ``DIMENSIONS``, ``ask`` puts a query to ClickHouse.

    Raises:
        NotTheWhole: the rows do not add up to what all calls together come to.
    """
    columns = tuple(column for name in by for column in DIMENSIONS[name])
    where = within(start_us, stop_us)
    names = ", ".join(columns)
    parts = ask(f"SELECT {names}, {_sums('share', 'unpriced')} FROM v_showback WHERE {where} GROUP BY {names}")
    whole = ask(f"SELECT {_sums(_ONE, f'if(v_costs.cost_usd IS NULL, {_ONE}, 0)')} FROM v_costs WHERE {where}")
    total = _bill(whole.rows[0], 0)
    bills = sorted((_bill(row, len(columns)) for row in parts.rows), key=_dearest_first)
    if not _adds_up(bills, total):
        raise NotTheWhole("calls arrived while this was asked, so the parts are not the whole: ask again")
    return Showback(columns, tuple(bills), total)


def _sums(calls: str, unpriced: str) -> str:
    # As text: JSON's numbers would cost digits.
    return (
        f"toString(sum({calls})), toString(sum({unpriced})), toString(sumOrNull(cost_usd)), "
        "toString(sum(ifNull(input_tokens, 0))), toString(sum(ifNull(output_tokens, 0)))"
    )


def _bill(row: Sequence[Any], names: int) -> Bill:
    calls, unpriced, cost, inputs, outputs = row[names:]
    return Bill(
        names=tuple(row[:names]),
        calls=Decimal(calls),
        unpriced=Decimal(unpriced),
        cost_usd=None if cost is None else Decimal(cost),
        input_tokens=int(inputs),
        output_tokens=int(outputs),
    )


def _dearest_first(bill: Bill) -> tuple[Decimal, tuple[str, ...]]:
    return -(bill.cost_usd or Decimal(0)), tuple(name or "" for name in bill.names)


def _adds_up(bills: Sequence[Bill], total: Bill) -> bool:
    costs = [bill.cost_usd for bill in bills if bill.cost_usd is not None]
    return (
        sum((bill.calls for bill in bills), Decimal(0)) == total.calls
        and sum((bill.unpriced for bill in bills), Decimal(0)) == total.unpriced
        and (sum(costs, Decimal(0)) if costs else None) == total.cost_usd
        and sum(bill.input_tokens for bill in bills) == total.input_tokens
        and sum(bill.output_tokens for bill in bills) == total.output_tokens
    )
