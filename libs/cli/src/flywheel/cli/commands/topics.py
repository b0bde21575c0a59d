"""``flywheel topics`` and ``flywheel tail``."""

from __future__ import annotations

import asyncio
import contextlib

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.live_topics import KafkaAway, tail_topic, topic_states
from flywheel.cli.output import console, fail, json_option, print_json, print_json_line, table


@click.command()
@click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
@json_option
def topics(kafka: str | None, as_json: bool) -> None:
    """List the declared topics and the ones on Kafka, with their counts."""
    try:
        states = asyncio.run(topic_states(kafka or current_addresses().kafka))
    except KafkaAway as error:
        fail(str(error))
    if as_json:
        print_json(states)
        return
    rows = [
        [s.topic, s.event, s.live_partitions, s.records, ", ".join(s.producers), ", ".join(s.consumers), _remark(s)]
        for s in states
    ]
    names = ["topic", "event", "partitions", "records", "producers", "consumers", ""]
    console().print(table(names, rows))


def _remark(state: object) -> str:
    declared, live = getattr(state, "declared_partitions", None), getattr(state, "live_partitions", None)
    if live is None:
        return "declared, not on Kafka"
    if declared is None:
        return "on Kafka, not declared"
    return "" if declared == live else f"declared with {declared} partitions"


@click.command()
@click.argument("topic")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="At most this many records.")
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record kept.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new records until Ctrl-C.")
@click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
@json_option
def tail(
    *, topic: str, limit: int | None, from_beginning: bool, follow: bool, kafka: str | None, as_json: bool
) -> None:
    """Decode records of TOPIC, one JSON object a line. Without -f it stops at the end; --json changes nothing here."""

    async def run() -> None:
        bootstrap = kafka or current_addresses().kafka
        stream = tail_topic(bootstrap, topic, from_beginning=from_beginning, limit=limit, follow=follow)
        async with contextlib.aclosing(stream):
            async for record in stream:
                print_json_line(record)

    try:
        asyncio.run(run())
    except KafkaAway as error:
        fail(str(error))
    except KeyboardInterrupt:
        return
