"""``flywheel showback``: who pays for what."""

from __future__ import annotations

from typing import Any

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.paying import DIMENSIONS, Bill, NotTheWhole
from flywheel.cli.paying import showback as asked
from flywheel.cli.periods import check_period, period_options
from flywheel.cli.questions import QueryFailed, ask
from flywheel.pricing.lines import money


@click.command()
@period_options
@click.option(
    "--by", type=click.Choice(tuple(DIMENSIONS)), multiple=True, default=("team",), show_default=True,
    help="What to sum by; may be given several times.",
)  # fmt: skip
@json_option
def showback(start_us: int, stop_us: int, by: tuple[str, ...], as_json: bool) -> None:
    """Cost, calls, tokens and the share without a price, by team and other dimensions; the rows add up to the total.

    A call that several teams share (its `shares`) counts for each by its part.
    """
    check_period(start_us, stop_us)
    url = current_addresses().clickhouse
    try:
        found = asked(lambda query: ask(url, query), start_us, stop_us, tuple(dict.fromkeys(by)))
    except (QueryFailed, NotTheWhole) as error:
        fail(str(error))
    if as_json:
        rows = [{**dict(zip(found.columns, bill.names, strict=True)), **_plain(bill)} for bill in found.bills]
        print_json({"rows": rows, "total": _plain(found.total)})
        return
    lines = [[*(name or "–" for name in bill.names), *_shown(bill)] for bill in found.bills]
    lines.append([*("total", *[""] * (len(found.columns) - 1)), *_shown(found.total)])
    headings = [*found.columns, "cost USD", "calls", "input tokens", "output tokens", "unpriced"]
    console().print(table(headings, lines))


def _plain(bill: Bill) -> dict[str, Any]:
    return {
        "cost_usd": money(bill.cost_usd),
        "calls": money(bill.calls),
        "unpriced_calls": money(bill.unpriced),
        "unpriced_share": bill.unpriced_share,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
    }


def _shown(bill: Bill) -> list[Any]:
    share = bill.unpriced_share
    return [
        money(bill.cost_usd),
        money(bill.calls),
        bill.input_tokens,
        bill.output_tokens,
        None if share is None else f"{share:.1%}",
    ]
