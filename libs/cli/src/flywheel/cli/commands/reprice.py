"""``flywheel reprice``: calls of a period by other prices."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from flywheel.cli.addresses import Addresses, current_addresses
from flywheel.cli.commands.price import book_of
from flywheel.cli.live_topics import KafkaAway, live_partitions
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.periods import check_period, period_options
from flywheel.cli.questions import QueryFailed, ask
from flywheel.cli.repricing import EVENT, TOPIC, Reprice, Sums, reprices
from flywheel.events import Codec, load_registry
from flywheel.pricing import PriceBook
from flywheel.pricing.lines import money
from flywheel.stream import KafkaBus, Output, Publisher, Unavailable


@click.command()
@period_options
@click.option(
    "--prices", "prices_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Own prices."
)
@click.option("--apply", is_flag=True, help="Write the newer costs; without it only say what they would be.")
@json_option
def reprice(start_us: int, stop_us: int, prices_file: Path | None, apply: bool, as_json: bool) -> None:
    """Price recorded calls again, by the table of today or by a file of your own.

    Rows are never changed: a newer cost is a new event, which v_costs and the views of spending show; v_calls keeps
    the cost of arrival, and the bandit and budgets never move. Provider's bills stand. Run twice it does nothing more.
    """
    check_period(start_us, stop_us)
    prices, addresses = book_of(prices_file), current_addresses()
    try:
        sums = asyncio.run(_run(prices, addresses, (start_us, stop_us), apply=apply))
    except (QueryFailed, KafkaAway) as error:
        fail(str(error))
    except (Unavailable, TimeoutError) as error:
        fail(f"writing newer costs to Kafka at {addresses.kafka}: {error or 'no answer in time'}; run it again")
    _show(sums, prices.version, apply, as_json)


_ByModel = dict[tuple[str, str], Sums]


async def _run(prices: PriceBook, addresses: Addresses, period: tuple[int, int], *, apply: bool) -> _ByModel:
    found: _ByModel = defaultdict(Sums)
    publisher = None
    if apply:
        await live_partitions(addresses.kafka)  # fails at once where nobody listens
        publisher = Publisher(KafkaBus(addresses.kafka, client_id="flywheel-cli"), Codec(load_registry()), source="cli")
        await publisher.start()
    try:
        pages = reprices(lambda query: ask(addresses.clickhouse, query), prices, *period, now_us=time.time_ns() // 1000)
        for page in pages:
            if publisher is not None:
                await _publish(publisher, page)
            for one in page:
                found[one.provider, one.model].add(one)
    finally:
        if publisher is not None:
            await publisher.stop()
    return found


async def _publish(publisher: Publisher, page: list[Reprice]) -> None:
    events = [one.event for one in page if one.event is not None]
    if events:
        await publisher.publish([Output(TOPIC, event["request_id"], EVENT, event) for event in events])


def _show(by_model: _ByModel, version: str, applied: bool, as_json: bool) -> None:
    whole = Sums()
    for sums in by_model.values():
        _merge(whole, sums)
    if as_json:
        models = [
            {"provider": provider, "model": model, **_plain(sums)}
            for (provider, model), sums in sorted(by_model.items())
        ]
        print_json({"applied": applied, "prices": version, **_plain(whole), "by_model": models})
        return
    rows = [[provider, model, *_row(sums)] for (provider, model), sums in sorted(by_model.items())]
    rows.append(["total", "", *_row(whole)])
    headings = ["provider", "model", "calls", "changed", "before USD", "after USD", "unpriced before", "unpriced after"]
    console().print(table(headings, rows))
    changed = whole.verdicts.get("changed", 0)
    done = f"{changed} newer costs written" if applied else f"{changed} costs would change; --apply writes them"
    click.echo(f"prices {version}: {done}")


def _merge(whole: Sums, sums: Sums) -> None:
    whole.calls += sums.calls
    whole.before_usd += sums.before_usd
    whole.after_usd += sums.after_usd
    whole.unpriced_before += sums.unpriced_before
    whole.unpriced_after += sums.unpriced_after
    for verdict, count in sums.verdicts.items():
        whole.verdicts[verdict] = whole.verdicts.get(verdict, 0) + count


def _row(sums: Sums) -> list[Any]:
    return [
        sums.calls,
        sums.verdicts.get("changed", 0),
        money(sums.before_usd),
        money(sums.after_usd),
        sums.unpriced_before,
        sums.unpriced_after,
    ]


def _plain(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "before_usd": money(sums.before_usd),
        "after_usd": money(sums.after_usd),
        "unpriced_before": sums.unpriced_before,
        "unpriced_after": sums.unpriced_after,
        "verdicts": dict(sorted(sums.verdicts.items())),
    }
