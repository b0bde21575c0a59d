"""Rows about processes that die, freeze, come and go, or begin again from nothing."""

from __future__ import annotations

import asyncio
import shutil
import signal
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import DeleteGroupsRequest
from scene import Scene, joined, outcomes_learned
from system import until

BANDIT_POINTS: Final = (
    "mid_outbox", "before_state_commit", "after_state_commit", "after_fetch", "before_offset_commit",
)  # fmt: skip
RECORDER_POINTS: Final = ("after_effect", "after_fetch", "before_offset_commit", "after_effect", "after_fetch")
STORM_SHARE: Final = 0.2


async def broker_restarted(scene: Scene) -> None:
    """Row 1. The broker is stopped with SIGTERM and started again, again and again, while the load runs. Nothing may
    be lost, doubled or out of order, and work goes on after every start."""
    for _ in range(2 if scene.short else 5):
        await asyncio.to_thread(scene.system.kafka.stop)
        await scene.system.start_kafka()
        await goes_on(scene)
        scene.kills += 1


async def broker_killed(scene: Scene) -> None:
    """Row 2. The same with SIGKILL. One node that acknowledges into the page cache: this is the death of a process,
    not a power cut."""
    for _ in range(2 if scene.short else 5):
        await asyncio.to_thread(scene.system.kafka.kill)
        await scene.system.start_kafka()
        await goes_on(scene)
        scene.kills += 1


async def leaders_killed(scene: Scene) -> None:
    """Row 19. Three brokers, each also a controller, every topic with three copies of which two acknowledge. One after
    the other is killed with -9 and comes back: its partitions' leaders move, and the controller's too."""
    cluster = scene.system.cluster
    assert cluster is not None
    for node in list(cluster.nodes.values())[: 2 if scene.short else None]:
        await asyncio.to_thread(node.kill)
        scene.kills += 1
        await scene.under_load(5 if scene.short else 10)
        await goes_on(scene)
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(node.wait_ready)
        await goes_on(scene)


async def goes_on(scene: Scene) -> None:
    """Work goes on: the policy takes in outcomes that it had not when this was asked."""
    before = outcomes_learned(scene.system) or 0
    await until(lambda: (outcomes_learned(scene.system) or 0) > before, "outcomes are learned again")


async def consumers_killed(scene: Scene) -> None:
    """Row 3. The bandit and the recorder are killed with -9 at each named place of a batch, under load, five times
    over: fifty deaths, each at another passing of its place. What was in hand is read or sent again, and has its
    effect once."""
    places = list(zip(BANDIT_POINTS, RECORDER_POINTS, strict=True))[: 1 if scene.short else None]
    for passing in range(3, 4 if scene.short else 8):
        for bandit_at, recorder_at in places:
            await asyncio.gather(
                _dies_at(scene, "bandit", bandit_at, passing), _dies_at(scene, "recorder", recorder_at, passing)
            )
    await asyncio.gather(scene.system.start("bandit"), scene.system.start("recorder"))


async def _dies_at(scene: Scene, name: str, place: str, passing: int) -> None:
    system = scene.system
    await system.stop(name)
    system.spawn(name, FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS=f"{place}:{passing}=crash")
    status = await system.gone(name)
    scene.need(status == -signal.SIGKILL, f"{name} did not die at {place} (exit {status}): {system.tail(name, 3)}")
    scene.kills += 1


async def zombie(scene: Scene) -> None:
    """Row 4. A bandit stands still in the middle of a send, longer than its session, while a second one takes its
    partitions over; then the same with SIGSTOP and SIGCONT. The first comes back with what it had in hand: no late
    commit, no late emit, states equal to the replay. That the second sent the first one's outbox again shows as
    lineage repeats."""
    system = scene.system
    await system.stop("bandit")
    await system.start("bandit-2", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="mid_outbox:10=stall")
    await system.start("bandit")
    await goes_on(scene)
    await scene.under_load(25)
    for _ in range(1 if scene.short else 2):
        system.signal("bandit-2", signal.SIGSTOP)
        await scene.under_load(22)
        await goes_on(scene)
        system.signal("bandit-2", signal.SIGCONT)
        await scene.under_load(6)
        scene.need(system.alive("bandit-2"), "the frozen member joins again instead of dying")
        scene.kills += 1
    await system.stop("bandit-2")


async def rebalance_storm(scene: Scene) -> None:
    """Row 5. Bandits join and leave every two seconds, three at work; every other one leaves by being killed right
    after a send. Nothing lost, nothing doubled, and work goes on all the time: of what comes in meanwhile more than a
    fifth is joined meanwhile, where without a storm all of it is."""
    system = scene.system
    done, there = await joined(system)
    await system.start("bandit-2")
    for number in range(3 if scene.short else 12):
        system.spawn("bandit-3", FLYWHEEL_TESTING="1", FLYWHEEL_FAULTS="mid_outbox:1=crash" if number % 2 else "")
        if number % 2:
            await system.gone("bandit-3")
            scene.kills += 1
        else:
            await scene.under_load(4)
            await system.stop("bandit-3")
        await scene.under_load(2)
    done_after, there_after = await joined(system)
    share = (done_after - done) / (there_after - there)
    scene.notes.append(f"in the storm {share:.0%} of what came in was joined")
    scene.need(share > STORM_SHARE, f"in the storm only {share:.0%} of what came in was joined")
    await system.stop("bandit-2")
    await goes_on(scene)


async def restarted_from_nothing(scene: Scene) -> None:
    """Row 18. The bandit and the budget service lose their states, and the recorder its database, in the middle of the
    load; the groups' offsets are forgotten. All begin at the start of the log: the same states, the same rows, each
    once; what the bandit tells again replaces what it told before."""
    system = scene.system
    await scene.under_load(3 if scene.short else 10)
    lost = ("bandit", "budget", "recorder")
    await asyncio.gather(*(system.kill(name) for name in lost))
    for name in ("bandit", "budget"):
        await asyncio.to_thread(shutil.rmtree, system.folder / "state" / name)
    await asyncio.to_thread(shutil.rmtree, system.folder / "clickhouse")
    await forget_groups(scene)
    scene.retold = True
    await asyncio.gather(*(system.start(name) for name in lost))
    scene.kills += 3
    await goes_on(scene)


async def forget_groups(scene: Scene) -> None:
    """Delete the offsets of every group, once the sessions of its dead members have ended."""
    admin = AIOKafkaAdminClient(bootstrap_servers=scene.system.bootstrap)
    await admin.start()
    try:
        names = {name for name, *_ in await admin.list_consumer_groups()}
        async with asyncio.timeout(60):
            while names:
                answer = await admin._send_request(DeleteGroupsRequest(sorted(names)))
                names -= {name for name, code in answer.results if code == 0}
                await asyncio.sleep(1)
    finally:
        await admin.close()
