"""``flywheel price``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from flywheel.cli.declared_files import read_text
from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.output import console, fail, json_option, print_json_line, table
from flywheel.pricing import BUCKETS, PriceBook, bundled_prices, prices_with
from flywheel.pricing.lines import MOST_LINE_BYTES, Line, Summary, line_as_json, money, price_lines
from flywheel.pricing.own import MOST_BYTES, OwnPricesInvalid, read_own_prices

MOST_ROWS: Final = 50
"""So many calls are shown in the table for people; the summary counts all."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--prices",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Own prices, JSON or YAML in the shape of genai-prices; they win over the public table.",
)
@json_option
def price(file: Path, prices: Path | None, as_json: bool) -> None:
    """Price the calls in FILE (JSONL; - is standard input): disjoint token buckets, cost, price version and flags.

    A line is {"provider": "openai", "model": "gpt-4o", "time": "2026-11-21T04:10:00Z", "usage": {...}}, where usage is
    the object as the provider or SDK gave it; it may have "convention", "pool_seconds", "service_tier", "processing".
    Unknown is null, never 0. With --json each line of FILE gives one line of JSON, and the last has the summary. Lines
    that cannot be read are named and skipped; then the exit code is 1.
    """
    book = book_of(prices)
    summary = Summary()
    shown: list[Line] = []
    with click.open_file(str(file), "rb") as stream:
        for line in price_lines(limited_lines(stream, most_bytes=MOST_LINE_BYTES), book):
            summary.add(line)
            if as_json:
                print_json_line(line_as_json(line))
            elif line.priced is not None and len(shown) < MOST_ROWS:
                shown.append(line)
            if line.error is not None:
                click.echo(f"{called(file)}: line {line.number}: {line.error}", err=True)
    if as_json:
        print_json_line({"summary": summary.as_json()})
    else:
        _show(shown, summary)
    if summary.bad_lines:
        fail(f"{summary.bad_lines} of {summary.bad_lines + summary.whole.calls} lines could not be read")


def book_of(own: Path | None) -> PriceBook:
    """The public table, after a person's own file where there is one."""
    if own is None:
        return bundled_prices()
    try:
        return prices_with(read_own_prices(read_text(own, most_bytes=MOST_BYTES)))
    except OwnPricesInvalid as error:
        fail(f"{own}: {error}")


def _show(lines: list[Line], summary: Summary) -> None:
    out = console()
    if lines:
        rows = [
            (
                line.number,
                f"{line.provider} {line.model}",
                _split(line),
                money(line.priced.cost_usd),
                line.priced.price_version or line.priced.price_source,
                " ".join(line.priced.flags) or None,
            )
            for line in lines
            if line.priced is not None
        ]
        out.print(table(("line", "model", "buckets", "USD", "prices", "flags"), rows))
        if summary.whole.calls > len(lines):
            out.print(f"… and {summary.whole.calls - len(lines)} more (--json has all)")
        out.print()
    rows_by_model = [
        (f"{provider} {model}", sums.calls, money(sums.cost_usd), sums.unpriced, _share(sums.unpriced_share))
        for (provider, model), sums in sorted(summary.by_model.items())
    ]
    whole = summary.whole
    rows_by_model.append(("all", whole.calls, money(whole.cost_usd), whole.unpriced, _share(whole.unpriced_share)))
    out.print(table(("model", "calls", "USD", "unpriced", "unpriced share"), rows_by_model))
    for flag, count in sorted(summary.flags.items()):
        out.print(f"{flag}: {count}")


def _split(line: Line) -> str | None:
    assert line.priced is not None
    buckets = zip(BUCKETS, line.priced.usage.buckets, strict=True)
    return " ".join(f"{name.removesuffix('_tokens')}={count}" for name, count in buckets if count) or None


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
