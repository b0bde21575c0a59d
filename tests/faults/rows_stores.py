"""Rows about what producers send wrongly, and about stores and topics that are away."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from poison import READERS, TOPIC, Poisoner
from rows_network import is_produce
from rows_processes import goes_on
from scene import Scene, settled
from system import until

from flywheel.stream import KafkaBus, Outgoing
from flywheel.testkit.draining import ask_sql, read_topic

LETTERS = b"llm-calls.dlq"
MOST_PARTS: Final = 1
AGAIN = ("llm-decisions", "llm-calls", "llm-feedback")


async def duplicates(scene: Scene) -> None:
    """Row 6. A tenth of the posts is posted again, also to an ingest that was restarted and no longer knows them, and
    a producer without idempotence writes a part of the log a second time. One effect each."""
    system = scene.system
    await scene.under_load(3 if scene.short else 10)
    await system.kill("ingest")
    await system.start("ingest")
    scene.kills += 1
    producer = KafkaBus(system.bootstrap, client_id="twice").producer()
    await producer.start()
    for topic in AGAIN:
        records = (await read_topic(system.bootstrap, topic))[: 50 if scene.short else 500]
        await producer.send_many([Outgoing(topic, r.key, r.value, r.headers) for r in records if r.value is not None])
    await producer.stop()
    await scene.under_load(2 if scene.short else 10)


async def store_away(scene: Scene) -> None:
    """Row 11. ClickHouse is embedded in the recorder, so it is away when that is: killed for a while; killed right
    after a write; then standing still, and a reply lost after the write (the insert is done, and the recorder is told
    that it failed); then so low a limit of parts that it refuses inserts ("too many parts") until the limit is taken
    away. The lag grows and is worked off, no row is there twice, and none is taken for a bad one."""
    system, ledger = scene.system, scene.load.ledger
    away_s = 3 if scene.short else 20
    await system.kill("recorder")
    await scene.under_load(away_s)
    system.spawn("recorder", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="after_effect:2=crash")
    status = await system.gone("recorder")
    scene.need(status == -signal.SIGKILL, f"the recorder did not die after a write (exit {status})")
    await system.start("recorder", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="after_effect:3=fail")
    system.signal("recorder", signal.SIGSTOP)
    await scene.under_load(away_s)
    sent = len(ledger.ids_sent("llm-calls"))
    system.signal("recorder", signal.SIGCONT)
    scene.kills += 2
    await until(
        lambda: system.metric("recorder", "stream_retries_total") > 0, "the reply lost after a write is noticed"
    )
    await until(lambda: calls_in_view(scene) >= sent, "what came while the recorder stood still is in the view")
    await _too_many_parts(scene, away_s)
    scene.notes.append(f"{sent} calls caught up with, recorder's memory {system.rss_mb('recorder'):.0f} MB")


async def _too_many_parts(scene: Scene, seconds: float) -> None:
    system = scene.system
    await _limit_parts(scene, str(MOST_PARTS))
    await until(lambda: system.metric("recorder", "stream_retries_total") > 0, "too many parts refuse an insert")
    await scene.under_load(seconds)
    scene.need("Too many parts" in system.tail("recorder", 200), "the recorder does not say why it waits")
    sent = len(scene.load.ledger.ids_sent("llm-calls"))
    await _limit_parts(scene, "default")
    await until(lambda: calls_in_view(scene) >= sent, "what came meanwhile is in the view")


async def _limit_parts(scene: Scene, most: str) -> None:
    """While the recorder is stopped, as its engine is embedded."""
    await scene.system.stop("recorder")
    tool, folder = Path(__file__).with_name("parts_limit.py"), scene.system.folder / "clickhouse"
    child = await asyncio.create_subprocess_exec(sys.executable, str(tool), str(folder), "llm_calls", most)
    scene.need(await child.wait() == 0, f"the limit of parts could not be set to {most}")
    await scene.system.start("recorder")


def calls_in_view(scene: Scene) -> int:
    """How many calls the view holds; -1 when the recorder does not answer."""
    try:
        return int(ask_sql(scene.system.url("recorder"), "SELECT count() FROM v_calls")[0][0])
    except httpx.HTTPError:
        return -1


async def poison(scene: Scene) -> None:
    """Row 8. Among the load: bytes without our magic, truncated events, events of another topic, a record of 10 MB and
    well-formed events with absurd values, one in twenty. Each is a dead letter once, of every service that reads it,
    with its reason and the source's offset. Then one partition gets nothing but poison: its breaker stops it, so that
    at most that many letters and a few tries lie there while the rest waits; when good records follow it goes on. (A
    step that raises is not provoked here: none of ours does; the runner's own tests have one that does.)"""
    producer = Poisoner(scene)
    await producer.start()
    try:
        for _ in range(3 if scene.short else 20):
            await producer.mixed()
            await scene.under_load(1)
        await producer.huge()
        if not scene.short:
            scene.load.pause()  # a good record in the same poll, and the run of bad ones would be over
            await settled(scene)
            await producer.nothing_else()
            await asyncio.gather(*(_breaker_opens(scene, name) for name in READERS))
            scene.load.resume()
    finally:
        await producer.stop()
    await goes_on(scene)
    scene.notes.append(f"{producer.sent} poisoned records, {len(scene.letters)} letters due")


async def _breaker_opens(scene: Scene, name: str) -> None:
    await until(lambda: scene.system.metric(name, "stream_paused") > 0, f"{name} stops the partition")


async def letters_away(scene: Scene) -> None:
    """Row 9. The proxy lets nothing through to one topic, that of the dead letters of calls, while poison comes. The
    partitions that hold it stop and the groups are told nothing past it; when the topic can be written again all goes
    on, and each letter is there once."""
    system, proxy = scene.system, scene.system.proxy
    assert proxy is not None
    producer = Poisoner(scene)
    await producer.start()
    proxy.block(lambda data: is_produce(data) and LETTERS in data)
    await producer.mixed()
    await until(lambda: system.metric("bandit", "stream_paused") > 0, "the bandit waits")
    await until(lambda: system.metric("recorder", "stream_paused") > 0, "the recorder waits")
    await scene.under_load(3 if scene.short else 15)
    letters = await read_topic(system.bootstrap, LETTERS.decode())
    scene.need(not letters, f"{len(letters)} letters are on a topic that nobody could write to")
    for group in ("flywheel-bandit-join", "flywheel-recorder"):
        told = await _committed(system.bootstrap, group)
        passed = {p: at for p, at in producer.first.items() if told.get(p, 0) > at}
        scene.need(not passed, f"{group} committed past records whose letters are not written: {passed}")
    proxy.clear()
    await goes_on(scene)
    await producer.stop()
    scene.notes.append(f"{proxy.seen.blocked} writes of dead letters were blocked, {len(scene.letters)} are there now")


async def _committed(bootstrap: str, group: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        told = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {p.partition: found.offset for p, found in told.items() if p.topic == TOPIC}
