"""``flywheel sql``."""

from __future__ import annotations

import sys

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.questions import QueryFailed, ask


@click.command()
@click.argument("query")
@click.option("--url", help="ClickHouse's HTTP address; default: the running system's.")
@json_option
def sql(query: str, url: str | None, as_json: bool) -> None:
    """Ask ClickHouse: flywheel sql "SELECT count() FROM v_calls". A dash reads the query from standard input."""
    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise click.UsageError("the query is empty")
    try:
        rows = ask(url or current_addresses().clickhouse, text)
    except QueryFailed as error:
        fail(str(error))
    if as_json:
        print_json(rows.dicts())
    else:
        console().print(table(list(rows.columns), [list(row) for row in rows.rows]))
