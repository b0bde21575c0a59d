"""``flywheel replay``."""

from __future__ import annotations

from pathlib import Path

import click
import httpx

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import console, fail, json_option, print_json
from flywheel.cli.recorded_items import PostFailed, RecordInvalid, post_items, read_items


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="1 plays as it happened; default: at once.")
@click.option("--url", help="Address of ingest; default: the running system's.")
@json_option
def replay(file: Path, speed: float | None, url: str | None, as_json: bool) -> None:
    """Post recorded calls, feedback and evaluations (JSONL) to ingest, in order.

    A line is {"call": {...}}, {"feedback": {...}} or {"evaluation": {...}}. Posting a file twice changes nothing: ids
    are derived from the content. Ends with exit code 1 when an item was rejected.
    """
    try:
        with httpx.Client(base_url=url or current_addresses().ingest, timeout=30) as client:
            posted = post_items(read_items(file), client, speed=speed)
    except (RecordInvalid, PostFailed) as error:
        fail(str(error))
    if as_json:
        print_json(posted)
    else:
        console().print(f"accepted {posted.accepted}, duplicate {posted.duplicates}, rejected {posted.rejected}")
    if posted.rejected:
        fail(f"{posted.rejected} items were rejected: {'; '.join(posted.first_errors)}")
