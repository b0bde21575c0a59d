"""Rows about the network, clocks, disks, slow readers, and one broker of three."""

from __future__ import annotations

import asyncio
import resource
import signal

from rows_processes import goes_on
from scene import Scene, outcomes_learned
from system import until

from flywheel.testkit.rules import PASS, Rules

PRODUCE = 0
"""The number of Kafka's Produce request."""


def is_produce(data: bytes) -> bool:
    """Whether these bytes begin with a Produce request of Kafka's protocol."""
    return len(data) > 8 and int.from_bytes(data[4:6], "big") == PRODUCE


async def network(scene: Scene) -> None:
    """Row 16. Every client reaches Kafka through the proxy: half a second of latency, then requests that do not
    arrive on connections that stay open, then replies that do not, then resets, a while of refusals, and answers lost
    after the broker has written."""
    proxy = scene.system.proxy
    assert proxy is not None
    while_s = 4 if scene.short else 12
    spoiled = (
        Rules(delay_requests_s=0.25, delay_replies_s=0.25), Rules(hold_requests=True), Rules(hold_replies=True),
        Rules(refuse=True),
    )  # fmt: skip
    for rules in spoiled:
        proxy.set(rules)
        if rules.refuse:
            proxy.cut()
        await scene.under_load(while_s)
        proxy.set(PASS)
        await goes_on(scene)
    for _ in range(2 if scene.short else 6):
        proxy.cut()
        await scene.under_load(2)
    proxy.drop_replies(3 if scene.short else 10, is_produce)
    await until(lambda: proxy.seen.dropped_replies > 2, "answers to Produce are lost")
    proxy.clear()
    await goes_on(scene)
    seen = proxy.seen
    scene.notes.append(
        f"{seen.connections} connections, {seen.cut} cut, {seen.refused} refused, {seen.dropped_replies} answers lost"
    )


async def slow_consumer(scene: Scene) -> None:
    """Row 15. The bandit gets a tenth of its time: signals stop it for 3.6 s of every four, which is the honest way to
    slow a real process down. It falls behind and says so, keeps its place in the group, its memory does
    not grow with the lag, and it catches up."""
    system = scene.system
    await scene.under_load(3)
    before_mb, joined = system.rss_mb("bandit"), system.metric("bandit", "stream_rebalances_total")
    lag = 0.0
    for _ in range(3 if scene.short else 12):
        system.signal("bandit", signal.SIGSTOP)
        await scene.under_load(3.6)
        lag = max(lag, scene.load.requests - (outcomes_learned(system) or 0))
        system.signal("bandit", signal.SIGCONT)
        await scene.under_load(0.4)
    after_mb = system.rss_mb("bandit")
    await goes_on(scene)
    scene.need(system.metric("bandit", "stream_rebalances_total") == joined, "the slow member lost its partitions")
    scene.need(lag > 2 * scene.load.per_s, f"it was behind by {lag:.0f} requests only: the row shows nothing")
    scene.need(after_mb < before_mb * 1.5 + 32, f"memory went from {before_mb:.0f} to {after_mb:.0f} MB")
    scene.notes.append(f"behind by up to {lag:.0f} requests, memory {before_mb:.0f} to {after_mb:.0f} MB")


async def disk_full(scene: Scene) -> None:
    """Row 14. Disks fill up, one after the other. No file of the bandit, then of the broker, may grow beyond what it
    has (a limit of the process, RLIMIT_FSIZE, as a small file system needs root). The bandit ends with a clear message
    instead of going on with half a write, and the broker ends by its own rule for a log folder that fails; when there
    is room again both resume from a whole state. The recorder is told to want more free space than there is: it
    waits, says so, and drains afterwards."""
    system = scene.system
    await scene.under_load(3)
    largest = max(path.stat().st_size for path in system.states.rglob("*.sqlite*"))
    resource.prlimit(system.pid("bandit"), resource.RLIMIT_FSIZE, (largest, largest))
    status = await system.gone("bandit")
    said = system.tail("bandit", 60)
    scene.need(status > 0, f"the bandit ended with {status}, not with an exit code of its own")
    scene.need("state cannot be written" in said, f"its log does not say what is wrong: {said[-300:]}")
    scene.kills += 1
    await scene.under_load(2)
    await system.start("bandit")
    await goes_on(scene)
    scene.notes.append(f"the bandit ended with exit {status} when its files could not grow beyond {largest} bytes")
    await _recorder_without_room(scene)
    await _broker_without_room(scene)


async def _recorder_without_room(scene: Scene) -> None:
    system = scene.system
    await system.stop("recorder")
    system.spawn("recorder", FLYWHEEL_MIN_FREE_BYTES=str(1 << 60))
    await until(lambda: system.metric("recorder", "stream_retries_total") > 0, "the recorder waits for room")
    await scene.under_load(3)
    said = system.tail("recorder", 200)
    scene.need("NOT_ENOUGH_SPACE" in said, f"the recorder does not say that it has no room: {said[-300:]}")
    await system.stop("recorder")
    await system.start("recorder")


async def _broker_without_room(scene: Scene) -> None:
    kafka = scene.system.kafka
    largest = max(path.stat().st_size for path in (kafka.data_dir / "log").rglob("*.log"))
    resource.prlimit(kafka.process_id.pid, resource.RLIMIT_FSIZE, (largest, largest))
    await until(lambda: not kafka.running, "the broker has ended")
    scene.kills += 1
    await asyncio.to_thread(kafka.kill)
    await scene.under_load(2)
    await scene.system.start_kafka()
    await goes_on(scene)
    scene.notes.append(f"the broker ended when its files could not grow beyond {largest} bytes")
