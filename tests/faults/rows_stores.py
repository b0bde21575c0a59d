"""Rows about what producers send wrongly, and about stores and topics that are away."""

from __future__ import annotations

import signal

from scene import Scene
from system import until

from flywheel.stream import KafkaBus, Outgoing
from flywheel.testkit.draining import read_topic

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
    """Row 11. ClickHouse is embedded in the recorder, so it is away when that is: killed for a while, then standing
    still, then a reply lost after the write (the insert is done, and the recorder is told that it failed), then killed
    right after a write. The lag grows and is worked off, memory stays bounded, no row is there twice."""
    system = scene.system
    away_s = 3 if scene.short else 20
    await system.kill("recorder")
    await scene.under_load(away_s)
    await system.start("recorder", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="after_effect:2=fail,after_effect:5=crash")
    status = await system.gone("recorder") if scene.short else await _after_a_while(scene)
    scene.need(status == -signal.SIGKILL, f"the recorder did not die after a write (exit {status})")
    await system.start("recorder", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="after_effect:3=fail")
    system.signal("recorder", signal.SIGSTOP)
    await scene.under_load(away_s)
    system.signal("recorder", signal.SIGCONT)
    scene.kills += 2
    await until(
        lambda: system.metric("recorder", "stream_retries_total") > 0, "the reply lost after a write is noticed"
    )
    await until(lambda: system.metric("recorder", "lag_records") < 200, "the recorder has caught up")
    scene.notes.append(f"recorder's memory {system.rss_mb('recorder'):.0f} MB")


async def _after_a_while(scene: Scene) -> int:
    return await scene.system.gone("recorder")
