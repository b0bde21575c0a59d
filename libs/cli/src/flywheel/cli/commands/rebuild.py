"""``flywheel rebuild``: what a service that lost its disk comes back from, and the part of it that needs a hand."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import orjson

from flywheel.cli.addresses import current_addresses
from flywheel.cli.commands.configuring import SERVICES, settings_of
from flywheel.cli.live_topics import KafkaAway, TopicState, topic_states
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.events import topics
from flywheel.local import runtime
from flywheel.local.parts import PARTS

STATELESS: Final = {
    "ingest": "nothing to rebuild: ingest answers when Kafka has the items. Only the key of user hashes is on its "
    "disk, unless one is configured: put the same key back, else the hashes of users change. Start it.",
    "router": "nothing to rebuild: policies are read from their topic at the start. Decisions that were answered and "
    "still waited in its journal because Kafka was away are gone with the disk. Start it.",
}


@dataclass(frozen=True, slots=True)
class Recoverable:
    """A topic that the recorder reads: ``records`` Kafka still has, from ``begins`` (first offset, by partition)."""

    topic: str
    records: int | None
    begins: dict[int, int]


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--from-clickhouse", metavar="URL", help="bandit: also the facts that Kafka's retention has deleted.")
@click.option("--force", is_flag=True, help="Move aside what is on the disk; nothing is deleted.")
@click.option("--accept-loss", is_flag=True, help="bandit: go on without records that are nowhere any more.")
@json_option
def rebuild(service: str, from_clickhouse: str | None, force: bool, accept_loss: bool, as_json: bool) -> None:
    """Bring a service back that lost its disk. Stop it first, start it afterwards.

    Without options it only says what can be recovered and how; exit code 1 when Kafka alone is not enough.
    """
    if (from_clickhouse or accept_loss) and service != "bandit":
        raise click.UsageError("--from-clickhouse and --accept-loss are for the bandit")
    if accept_loss and not from_clickhouse:
        raise click.UsageError("--accept-loss needs --from-clickhouse")
    if service in STATELESS:
        _say({"service": service, "needed": False, "detail": STATELESS[service]}, as_json)
    elif service == "recorder":
        _recorder(force, as_json)
    else:
        _bandit(from_clickhouse, force, accept_loss, as_json)


def _say(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(body)
    else:
        click.echo(body["detail"])


def _bandit(url: str | None, force: bool, accept_loss: bool, as_json: bool) -> None:
    command = [sys.executable, "-m", "flywheel_bandit.rebuild"]
    command += ["--from-clickhouse", url] if url else []
    command += [flag for flag, given in (("--force", force), ("--accept-loss", accept_loss)) if given]
    ended = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_env("bandit"))
    assert ended.stdout is not None and ended.stderr is not None
    last = ""
    for line in ended.stderr:  # progress, and in the end why it failed
        last = line.strip()
        click.echo(last, err=True) if line.endswith("folded\n") else None
    output = ended.stdout.read()
    if ended.wait() != 0:
        fail(f"rebuilding the bandit: {last}")
    report = orjson.loads(output)
    unsolved = report["needs_clickhouse"] and url is None
    report["detail"] = _verdict(report, unsolved)
    if as_json:
        print_json(report)
    else:
        if report["reads_on_at"]:
            rows = [
                [name, offset, report["kafka_begins"].get(name, 0)] for name, offset in report["reads_on_at"].items()
            ]
            console().print(table(["partition", "reads on at", "Kafka begins at"], rows))
        click.echo(report["detail"])
    if unsolved:
        raise SystemExit(1)


def _verdict(report: dict[str, Any], unsolved: bool) -> str:
    aside = f"What was there is now {report['moved_aside']}. " if report["moved_aside"] else ""
    if unsolved:
        places = ", ".join(f"{name} at {offset}" for name, offset in list(report["kafka_begins"].items())[:3])
        return f"{aside}Kafka no longer has every fact (it begins at: {places}): run again with --from-clickhouse URL"
    if not report["reads_on_at"]:
        return f"{aside}Kafka has every fact: start the bandit, it reads the log from the beginning by itself"
    inexact = f" Not exact: {'; '.join(report['inexact'])}." if report["inexact"] else " Nothing is missing."
    return f"{aside}{report['folded']} facts folded in {report['seconds']} s.{inexact} Start the bandit: it reads on"


def _recorder(force: bool, as_json: bool) -> None:
    try:
        states = asyncio.run(topic_states(current_addresses().kafka))
    except KafkaAway as error:
        fail(str(error))
    declared = topics()
    found = [state for state in states if state.topic in declared and "recorder" in state.consumers]
    begun = asyncio.run(_begins(current_addresses().kafka, found))
    whole = [
        Recoverable(state.topic, state.records, {n: at for n, at in begun.get(state.topic, {}).items() if at})
        for state in found
    ]
    path = Path(str(settings_of("recorder", _env("recorder"))["clickhouse_path"]["value"]))
    moved = _move_aside(path) if force else None
    lost = [one.topic for one in whole if one.begins and declared[one.topic].cleanup != "compact"]
    detail = f"Kafka still has all of {len(whole) - len(lost)} topics" + (f"; not of {', '.join(lost)}" if lost else "")
    detail += f". {path} is now {moved}" if moved else f". --force moves {path} aside" if path.exists() else ""
    detail += ". Start the recorder: it reads from the first offset that Kafka has, each event once"
    if as_json:
        print_json(
            {"service": "recorder", "topics": whole, "moved_aside": moved, "complete": not lost, "detail": detail}
        )
        return
    rows = [[o.topic, o.records, ", ".join(f"{n}: {at}" for n, at in o.begins.items()) or "0"] for o in whole]
    console().print(table(["topic", "records on Kafka", "begins at"], rows))
    click.echo(detail)


async def _begins(bootstrap: str, states: list[TopicState]) -> dict[str, dict[int, int]]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        every = [TopicPartition(s.topic, n) for s in states for n in range(s.live_partitions or 0)]
        found: dict[str, dict[int, int]] = {}
        for tp, offset in (await consumer.beginning_offsets(every)).items():
            found.setdefault(tp.topic, {})[tp.partition] = offset
        return found
    finally:
        await consumer.stop()


def _move_aside(folder: Path) -> Path | None:
    if not folder.exists():
        return None
    status = folder / "status"  # the engine holds a lock on it while a process has the folder open
    if status.exists():
        with status.open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fail(f"{folder} is open in a process: stop the recorder first")
    return folder.rename(folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"))


def _env(service: str) -> dict[str, str]:
    """The settings the service is started with: the environment first, then those of the system of this folder."""
    folder = runtime.home()
    own = PARTS[service].environment(folder, PARTS[service].ports)
    own = {name: value for name, value in own.items() if not name.endswith(("_FILE", "_PORT"))}
    own["FLYWHEEL_KAFKA_BOOTSTRAP"] = current_addresses().kafka
    return own | os.environ
