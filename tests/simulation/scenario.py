"""One seed: the real bandit, both stages, in one to three processes, with everything that goes wrong.

They share one disk or, every third seed, have one each, as on machines of their own: then a shard that moves is rebuilt
from the log, or goes on from what an earlier process left on that disk.

Facts come late, twice and in any order across topics, with junk among them; processes are killed between any two of
their steps, frozen past their session and stopped; sends arrive in part, twice, or after their sender gave up. When
all has settled, the states, the policies, the newest outcome of every request and the dead letters must be those of a
calm run of one process over the same log.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from flywheel.events import Codec, LocalRegistry, event_id, headers
from flywheel.observe import Health, Metrics
from flywheel.stream import Outgoing, ShardState, TopicPartition, state_digest
from flywheel.stream.kafka import partition_of
from flywheel.stream.shard import Identity, Shard
from flywheel.testkit.simulation import Broker, Process, SimulationLoop, Weather
from flywheel_bandit.core import INPUTS
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import JOIN, LEARN, LEARN_TOPICS, run_stages

START_US = 1_795_219_300_000_000
PARTITIONS = 2
STEPS = {JOIN: INPUTS, LEARN: LEARN_TOPICS}
FAULTS_S, FEED_S, SETTLE_S = 30.0, 20.0, 600.0
STORM = Weather(request_lost=0.08, answer_lost=0.08, away=0.02, way_s=0.05)
codec = Codec(LocalRegistry.load())


class Unlike(AssertionError):
    """The run with faults and the calm one differ."""


@dataclass
class Report:
    """What a seed did: how often each kind of fault struck, and how many records a reader met twice."""

    seed: int
    facts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    steps: int = 0


def charter(revision: int) -> dict[str, Any]:
    """A feature's charter; the second revision weighs cost differently."""
    text = f"""
feature: answers
quality: {{user.thumb: 1.0}}
weights: {{cost: 0.{revision}, latency: 0.1}}
constraints: {{p95_latency_ms: 500, usd_per_hour: {revision}, quality: {{min: 0.3}}}}
arms: [{{name: a, model: m}}, {{name: b, model: n}}]
policy: {{kind: thompson, half_life: 2000 outcomes, explore_floor: 0.01}}
attribution_window: 10s
"""
    return {
        "event_id": event_id("charter", text), "project": "default", "feature": "answers", "revision": revision,
        "occurred_at": START_US - 1_000_000 + revision * 2_000_000, "charter_yaml": text, "digest": event_id(text),
    }  # fmt: skip


def record(topic: str, event: str, key: str, value: Mapping[str, Any]) -> Outgoing:
    """An event as a producer would send it."""
    envelope = headers(
        event=event, event_id=value["event_id"], source="simulation", occurred_at_us=value["occurred_at"]
    )
    return Outgoing(topic, key.encode(), codec.encode(event, value), envelope)


def facts(chance: Random) -> Iterator[tuple[float, Outgoing]]:
    """When which record is sent: each fact once, some twice, some late, some never; and some junk."""
    for number in range(chance.randint(8, 30)):
        request, at_s = f"r{number}", chance.uniform(0.0, FEED_S)
        base = {"project": "default", "request_id": request, "feature": "answers"}
        at_us = START_US + int(at_s * 1e6)
        decision = base | {
            "event_id": event_id("decision", request), "occurred_at": at_us, "policy": "answers", "policy_version": 1,
            "reason": "policy", "policy_kind": "thompson_beta", "arm": chance.choice("ab"), "propensity": 0.5,
            "decider": "router", "arms": ["a", "b"], "propensities": [0.5, 0.5], "model": "m",
        }  # fmt: skip
        call = base | {
            "event_id": event_id("call", request), "occurred_at": at_us + 10, "provider": "openai",
            "status": chance.choice(["OK", "OK", "ERROR"]), "request_model": "m", "cost_usd": Decimal("0.0042"),
            "latency_ms": 800.0,
        }  # fmt: skip
        thumb = base | {
            "event_id": event_id("thumb", request), "occurred_at": at_us + 20, "kind": "user.thumb",
            "value": float(chance.random() < 0.7),
        }  # fmt: skip
        verdict = base | {
            "event_id": event_id("verdict", request), "occurred_at": at_us + 30, "evaluator": "judge", "score": 0.5,
        }  # fmt: skip
        for topic, event, value in (
            ("llm-decisions", "decision", decision),
            ("llm-evaluations", "evaluation", verdict),
            ("llm-calls", "llm_call", call),
            ("llm-feedback", "feedback", thumb),
        ):
            if chance.random() < 0.1:
                continue
            sent = record(topic, event, request, value)
            for _ in range(1 + (chance.random() < 0.15)):
                yield at_s + chance.choice((0.05, 1.0, FEED_S)) * chance.random(), sent
        if chance.random() < 0.1:
            yield at_s, Outgoing("llm-calls", request.encode(), b"junk %d" % number)


def last_words() -> Iterator[Outgoing]:
    """A fact for each partition: a shard takes over a changed charter with the next fact it reads."""
    for number in range(PARTITIONS):
        request = next(f"last{n}" for n in range(99) if partition_of(f"last{n}".encode(), PARTITIONS) == number)
        thumb = {
            "event_id": event_id("thumb", request), "project": "default", "request_id": request, "kind": "user.thumb",
            "occurred_at": START_US + int(FEED_S * 1e6), "value": 1.0,
        }  # fmt: skip
        yield record("llm-feedback", "feedback", request, thumb)


GRACE_S = 1.0
"""Every other seed: some facts come after their request was let go."""


class Scene:
    """A run over one folder and one broker."""

    def __init__(self, loop: SimulationLoop, chance: Random, folder: Path, report: Report) -> None:
        self.loop, self.chance, self.folder, self.report = loop, chance, folder, report
        self.broker = Broker(loop, chance, partitions=PARTITIONS, start_ms=START_US // 1000)
        self.processes: list[Process] = []
        self.mains: dict[Process, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self.started = 0
        self.own_disks = False
        self.grace_s = 3_600.0
        self.disks: dict[Process, Path] = {}
        self.last = folder

    def disk(self) -> Path:
        """Where a process that starts now keeps its state."""
        if not self.own_disks:
            return self.folder / "disk"
        taken = {self.disks[p] for p in self.processes if p.alive and not self.mains[p][0].done()}
        left = sorted(set(self.disks.values()) - taken)
        return self.chance.choice([*left, self.folder / f"disk-{self.started}"])

    def start(self, dies_at: int | None = None) -> None:
        """Start one more bandit; it is killed at its ``dies_at``-th step."""
        self.started += 1
        process = Process(f"bandit-{self.started}", dies_at=dies_at, died=self.broker.end_session)
        stop = asyncio.Event()
        disk = self.disks[process] = self.disk()
        settings = BanditSettings(state_dir=disk, ops_port=0, poll_ms=500, grace_s=self.grace_s)
        body = run_stages(settings, self.broker.client(process), Metrics(), Health(), stop)
        self.processes.append(process)
        self.mains[process] = self.loop.spawn(process, body), stop

    def running(self) -> list[Process]:
        """Those that are alive; one that ended by itself with an error ends the simulation."""
        for process in self.processes:
            main = self.mains[process][0]
            if process.alive and main.done() and not main.cancelled() and main.exception() is not None:
                raise main.exception() or AssertionError
        return [p for p in self.processes if p.alive and not self.mains[p][0].done()]

    async def stop(self, process: Process) -> None:
        """Ask a process to drain and end."""
        self.mains[process][1].set()
        await self.mains[process][0]

    async def settle(self) -> None:
        """Wait until one process is left and its disk is at the end of every log, with nothing left to send."""
        quiet = 0
        async with asyncio.timeout(SETTLE_S):
            while quiet < 4:
                await asyncio.sleep(1.0)
                running = self.running()
                if not running:
                    self.start()
                for process in running[1:] if self.own_disks else []:
                    await self.stop(process)
                quiet = quiet + 1 if running and self.at_the_end(self.disks[running[0]]) else 0

    def at_the_end(self, disk: Path) -> bool:
        """Whether the states on a disk have read everything, and everything of theirs is acknowledged."""
        done: dict[tuple[str, str, int], int] = {}
        for path in disk.glob("bandit/*/*.sqlite"):
            db = sqlite3.connect(path)
            if db.execute("SELECT count(*) FROM outbox").fetchone()[0]:
                return False
            done |= {(path.parent.name, topic, part): n for topic, part, n in db.execute("SELECT * FROM offsets")}
            db.close()
        logs = self.broker.logs
        every = [(step, p) for step, topics in STEPS.items() for topic in topics for p in logs.partitions_of(topic)]
        return all(done.get((step, p.topic, p.partition), 0) == len(logs.log(p)) for step, p in every)

    async def end(self) -> None:
        """Ask all to drain and end."""
        for process in self.running():
            await self.stop(process)
            self.last = self.disks[process]
        self.report.steps += sum(p.steps for p in self.processes)

    async def bury(self) -> None:
        """Take apart what was killed, or is left after an error."""
        for process in self.processes:
            process.alive = False
            await self.loop.bury(process)

    def digests(self) -> dict[str, str]:
        """What every shard's state hashes to, on the disk of the process that ended last."""
        return {f"{p.parent.name}/{p.name}": state_digest(p) for p in sorted(self.last.glob("bandit/*/*.sqlite"))}


async def feed(scene: Scene) -> None:
    """Send the facts at their times, and the charters."""
    scene.broker.append([record("charters", "charter", "default/answers", charter(1))])
    plan = sorted(facts(scene.chance), key=lambda each: each[0])
    plan.append((FEED_S / 3, record("charters", "charter", "default/answers", charter(2))))
    scene.report.facts = len(plan)
    for at_s, sent in sorted(plan, key=lambda each: each[0]):
        await asyncio.sleep(max(0.0, at_s - scene.loop.time()))
        scene.broker.append([sent])


async def trouble(scene: Scene) -> None:
    """Something goes wrong every few seconds, until it is enough."""
    chance = scene.chance
    while scene.loop.time() < FAULTS_S:
        await asyncio.sleep(chance.expovariate(1 / 3.0))
        running = [p for p in scene.running() if not p.frozen]
        if not running:
            scene.start(_some_step(chance))
            continue
        process = chance.choice(running)
        match chance.choice(("kill", "kill", "freeze", "stop", "join")):
            case "kill":
                process.dies_at = process.steps + chance.randint(1, 60)
                scene.report.faults["kill"] += 1
            case "freeze":
                scene.report.faults["freeze"] += 1
                process.frozen = True
                scene.broker.end_session(process)
                scene.loop.call_later(chance.uniform(0.5, 20.0), process.thaw, scene.loop)
            case "stop":
                scene.report.faults["stop"] += 1
                scene.mains[process][1].set()
            case _ if len(running) < 3:
                scene.report.faults["join"] += 1
                scene.start(_some_step(chance))


def _some_step(chance: Random) -> int | None:
    """Some processes die young."""
    return chance.randint(1, 400) if chance.random() < 0.5 else None


def outcomes(broker: Broker, report: Report) -> tuple[dict[str, Any], Counter[str]]:
    """The newest outcome of each request as ClickHouse shows it, where an id's first event stays, and how often a
    reader that drops repeats takes each event. Raises Unlike when two claim to be the newest."""
    newest: dict[str, Any] = {}
    rival: dict[str, int] = {}
    taken: Counter[str] = Counter()
    for partition in broker.logs.partitions_of("llm-outcomes"):
        reader = Shard(number=0, state=ShardState(None), codec=codec, identity=Identity("reader", "1"))
        batch = reader.sort({partition: broker.logs.log(partition)})
        report.repeats += batch.repeats.total()
        for event in batch.events:
            taken[event.value["event_id"]] += 1
            if taken[event.value["event_id"]] > 1:
                continue
            request, value = event.value["request_id"], event.value
            known = newest[request]["revision"] if request in newest else 0
            if value["revision"] > known:
                newest[request] = value
            elif value["revision"] == known:
                rival[request] = known
        reader.state.close()
    for request, revision in rival.items():
        if newest[request]["revision"] == revision:
            raise Unlike(f"{request} is shown twice, both as revision {revision}")
    return newest, taken


def policies(broker: Broker) -> dict[bytes, Any]:
    """The newest policy of each feature: readers go by its version, as a late copy of an older one may come last."""
    newest: dict[bytes, Any] = {}
    for each in broker.logs.records("policies"):
        value = codec.decode(each.value or b"").value
        if value["policy_version"] >= newest.get(each.key or b"", value)["policy_version"]:
            newest[each.key or b""] = value
    return newest


def letters(broker: Broker) -> set[str]:
    """The dead letters, by id."""
    names = [f"{topic}.dlq" for topic in INPUTS]
    return {codec.decode(r.value or b"").value["event_id"] for name in names for r in broker.logs.records(name)}


async def calm_run(scene: Scene, disturbed: Broker) -> None:
    """One process, no faults, over the log that the disturbed run had."""
    for topic in (*INPUTS, "charters"):
        for partition in disturbed.logs.partitions_of(topic):
            log: Sequence[Any] = disturbed.logs.log(partition)
            target = scene.broker.logs._logs if scene.broker.logs.partitions_of(topic) else {}
            target[TopicPartition(topic, partition.partition)] = list(log)
    scene.start()
    await scene.settle()
    await scene.end()


def compare(disturbed: Scene, calm: Scene, report: Report) -> None:
    """Hold the disturbed run to the calm one. Raises Unlike."""
    if disturbed.digests() != calm.digests():
        raise Unlike(f"states differ: {disturbed.digests()} is not {calm.digests()}")
    newest, taken = outcomes(disturbed.broker, report)
    expected, _ = outcomes(calm.broker, Report(0))
    if newest.keys() != expected.keys():
        raise Unlike(f"outcomes lost or made up: {newest.keys() ^ expected.keys()}")
    for request, value in expected.items():
        # Who reads its log again tells under larger revisions, and the id is a hash of that too.
        if newest[request] | {"revision": 0, "event_id": ""} != value | {"revision": 0, "event_id": ""}:
            raise Unlike(f"the outcome of {request} is {newest[request]}, not {value}")
    twice = [name for name, times in taken.items() if times > 1]
    if twice and not disturbed.own_disks:  # what is folded anew on another disk has its ids, and no marks
        raise Unlike(f"a reader takes these twice: {twice}")
    if policies(disturbed.broker) != policies(calm.broker):
        raise Unlike(f"policies differ: {policies(disturbed.broker)} is not {policies(calm.broker)}")
    if letters(disturbed.broker) != letters(calm.broker):
        raise Unlike("dead letters differ")


async def disturb(scene: Scene) -> None:
    """Feed the bandit while things go wrong, then wait until all is settled."""
    scene.broker.weather = STORM
    for _ in range(scene.chance.randint(1, 3)):
        scene.start(_some_step(scene.chance))
    feeding = scene.loop.create_task(feed(scene))
    await trouble(scene)
    await feeding
    scene.broker.calm()
    for process in scene.processes:
        process.dies_at = None
        if process.frozen:
            process.thaw(scene.loop)
    await scene.settle()
    scene.broker.append(last_words())
    await scene.settle()
    await scene.end()


async def _play(loop: SimulationLoop, seed: int, folder: Path) -> Report:
    report = Report(seed)
    disturbed = Scene(loop, Random(seed), folder / "disturbed", report)
    disturbed.own_disks = seed % 3 == 0
    calm = Scene(loop, Random(seed), folder / "calm", Report(seed))
    disturbed.grace_s = calm.grace_s = GRACE_S if seed % 2 else 3_600.0
    try:
        await disturb(disturbed)
        await calm_run(calm, disturbed.broker)
    finally:
        await disturbed.bury()
        await calm.bury()
    report.faults["rebalance"] = disturbed.broker.rebalances
    compare(disturbed, calm, report)
    return report


def play(seed: int) -> Report:
    """Run one seed to its end. Raises what went wrong."""
    random.seed(seed)  # the runner's jitter
    loop = SimulationLoop(Random(seed))
    memory = Path("/dev/shm")  # where there is one, a disk in memory: nothing here is about power loss
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
    try:
        with contextlib.closing(loop):
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(_play(loop, seed, folder))
    finally:
        asyncio.set_event_loop(None)
        shutil.rmtree(folder, ignore_errors=True)
