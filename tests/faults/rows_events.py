"""Rows about what events say: their order, their clocks, their schema."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import aiokafka
import fastavro
from load import FEATURE
from rows_processes import goes_on
from scene import FACTS, Scene
from system import until

from flywheel.events import Codec, event_id
from flywheel.stream.kafka_producer import partition_of
from flywheel.testkit.draining import ask_sql, end_offsets, read_topic
from schemas import NextSchema, SchemaServer

HOUR_US: Final = 3_600_000_000
DAY_S: Final = 86_400
LATE_US: Final = HOUR_US // 2
TOO_LATE_US: Final = 48 * HOUR_US
SPREAD_US: Final = 20_000_000
SKEWED: Final = Path(__file__).with_name("skewed")
"""Goes on the path of a process whose clock is to be wrong."""


@dataclass(frozen=True, slots=True)
class Fact:
    """An event on its way to a topic; ``sent_ms`` is what its producer claims as the time of sending."""

    topic: str
    event: str
    value: dict[str, Any]
    sent_ms: int | None = None

    @property
    def id(self) -> str:
        """The event's id."""
        return str(self.value["event_id"])


def facts(request: str, at_us: int, sent_ms: int | None = None) -> Iterator[Fact]:
    """Decision, call and feedback of a request, by a producer that writes to Kafka itself."""
    base = {"project": "default", "request_id": request, "feature": FEATURE}
    decision = event_id("decision", request)
    yield Fact("llm-decisions", "decision", base | {
        "event_id": decision, "occurred_at": at_us, "policy": FEATURE, "policy_version": 1, "reason": "policy",
        "policy_kind": "thompson_beta", "arm": "strong", "propensity": 0.5, "decider": "router",
        "arms": ["strong", "cheap"], "propensities": [0.5, 0.5], "model": "openai/gpt-4o",
    }, sent_ms)  # fmt: skip
    yield Fact("llm-calls", "llm_call", base | {
        "event_id": event_id("call", request), "occurred_at": at_us + 10, "provider": "openai", "status": "OK",
        "request_model": "gpt-4o", "cost_usd": Decimal("0.0042"), "latency_ms": 100.0, "decision_id": decision,
    }, sent_ms)  # fmt: skip
    yield Fact("llm-feedback", "feedback", base | {
        "event_id": event_id("thumb", request), "occurred_at": at_us + 20, "kind": "user.thumb", "value": 1.0,
    }, sent_ms)  # fmt: skip


class Producer:
    """Writes facts to Kafka one by one, in the order given, and notes them in the ledger."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._client = aiokafka.AIOKafkaProducer(bootstrap_servers=scene.system.bootstrap, linger_ms=5)

    async def __aenter__(self) -> Producer:
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    async def send(self, some: Sequence[Fact]) -> list[tuple[Fact, str]]:
        """Each fact with its place, ``topic/partition/offset``."""
        acks = []
        for fact in some:
            value, key = self._scene.codec.encode(fact.event, fact.value), fact.value["request_id"].encode()
            acks.append(await self._client.send(fact.topic, value, key=key, timestamp_ms=fact.sent_ms))
            self._scene.load.ledger.sent(fact.topic, [fact.id], key=key.decode())
        places = [await ack for ack in acks]
        return [(fact, f"{at.topic}/{at.partition}/{at.offset}") for fact, at in zip(some, places, strict=True)]

    def joined(self, requests: Sequence[str]) -> None:
        """These requests end as outcomes."""
        self._scene.load.joined_too(requests, Decimal("0.0042") * len(requests))


async def _everywhere_begun(scene: Scene) -> None:
    """Return when every partition has a fact of the load: the first one of a partition is never late, however old."""
    while not all((await end_offsets(scene.system.bootstrap, FACTS[:3])).values()):
        await scene.under_load(0.5)


async def out_of_order(scene: Scene) -> None:
    """Row 7. Requests whose parts come in any order, mixed among each other over twenty seconds; among them whole
    requests half an hour late, which is within the grace, and two days late, which teach nothing and are only
    recorded. Each of the others is joined once; what the log has is what the replay makes of it, however it is cut
    into batches."""
    dice, count = random.Random(scene.load.seed), 100 if scene.short else 600
    now_us = time.time_ns() // 1000
    found: list[tuple[int, Fact]] = []
    names = [f"permuted-{scene.load.seed}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        late_us = {0: LATE_US, 5: TOO_LATE_US}.get(number % 10, 0)
        at_us = now_us - SPREAD_US - dice.randrange(SPREAD_US)
        found += [(at_us + dice.randrange(SPREAD_US), fact) for fact in facts(name, at_us - late_us)]
    ordered = [fact for _, fact in sorted(found, key=lambda item: item[0])]
    await _everywhere_begun(scene)
    async with Producer(scene) as producer:
        for start in range(0, len(ordered), 50):
            await producer.send(ordered[start : start + 50])
            await scene.under_load(0.3)
        producer.joined([name for number, name in enumerate(names) if number % 10 != 5])
    scene.notes.append(
        f"{len(ordered)} facts out of order, a tenth of them {LATE_US // 60_000_000} minutes late and a tenth "
        f"{TOO_LATE_US // HOUR_US} hours"
    )


async def clocks(scene: Scene) -> None:
    """Row 13. Producers whose clocks are two hours off. What they claim as the time of sending is not taken (the
    topics stamp records themselves; by CreateTime Kafka 4 would refuse an hour ahead). Events from two hours ago are
    joined like others, as the row sets a grace of three hours; events from two hours ahead are dead letters of
    the bandit and the budgets, and cannot close windows early. All this while the clocks of the bandit and the budgets
    are a day ahead and the recorder's a day behind, which changes nothing: they take the time from the events."""
    for name, off_s in (("bandit", DAY_S), ("budget", DAY_S), ("recorder", -DAY_S)):
        await scene.system.stop(name)
        await scene.system.start(name, PYTHONPATH=str(SKEWED), FAULTS_CLOCK_S=str(off_s))
    now_us, count = time.time_ns() // 1000, 20 if scene.short else 100
    skewed = {name: sign * 2 * HOUR_US for name, sign in (("behind", -1), ("ahead", 1), ("honest", 0))}
    async with Producer(scene) as producer:
        for name, by_us in skewed.items():
            requests = [f"{name}-{scene.load.seed}-{number}" for number in range(count)]
            sent_ms = (now_us + (by_us or 2 * HOUR_US)) // 1000
            some = [fact for request in requests for fact in facts(request, now_us + by_us, sent_ms)]
            places = await producer.send(some)
            if name == "ahead":
                scene.letters |= {f"bandit {place} time_out_of_range" for _, place in places}
                scene.letters |= {
                    f"budget {place} time_out_of_range" for fact, place in places if fact.event != "feedback"
                }
            else:
                producer.joined(requests)
    stamps = [record.timestamp_ms for record in await read_topic(scene.system.bootstrap, "llm-calls")]
    farthest_s = max(abs(stamp - now_us // 1000) for stamp in stamps) / 1000
    scene.need(
        farthest_s < 3600, f"a record has a timestamp {farthest_s:.0f} s from now: the producer's clock was taken"
    )
    scene.notes.append(f"{3 * count * 3} facts by three clocks, {len(scene.letters)} letters due")


async def schemas_change(scene: Scene) -> None:
    """Row 10. A producer is deployed first: it writes calls with a field that nobody here knows, under a schema id
    that the registry does not have yet. The partitions that hold them wait, and nothing is lost or taken for poison;
    when the registry knows the schema all is read by resolution. Old and new events lie on the topic mixed; the new
    producer with the old consumer is the load itself, whose events go on meanwhile."""
    system, server = scene.system, SchemaServer()
    system.later.enter_context(server)
    system.environ["SCHEMA_REGISTRY_URL"] = server.url
    readers = ("bandit", "budget", "recorder")
    for name in readers:
        await system.stop(name)
        await system.start(name)
    upcoming = NextSchema.of("llm_call", "colour")
    requests = [f"upcoming-{number}" for number in range(40)]
    client = aiokafka.AIOKafkaProducer(bootstrap_servers=system.bootstrap)
    await client.start()
    for request in requests:
        (_, call, _) = facts(request, time.time_ns() // 1000)
        value = scene.codec.decode(scene.codec.encode(call.event, call.value)).value | {"colour": "green"}
        body = BytesIO()
        fastavro.schemaless_writer(body, upcoming.parsed, value)
        frame = b"\x00" + upcoming.version.schema_id.to_bytes(4, "big") + body.getvalue()
        at = await client.send_and_wait("llm-calls", frame, key=request.encode())
        scene.need(at.partition == partition_of(request.encode(), 4), "keys meet in one partition")
        scene.load.ledger.sent("llm-calls", [call.id], key=request)
        scene.load.passive_usd += call.value["cost_usd"]
    await client.stop()
    for name in readers:
        await until(lambda name=name: system.metric(name, "stream_paused") > 0, f"{name} waits")
    await scene.under_load(3)
    ask = "SELECT count() FROM v_calls WHERE startsWith(request_id, 'upcoming-')"
    scene.need(int(ask_sql(system.url("recorder"), ask)[0][0]) == 0, "calls of an unknown schema were recorded")
    server.learn(upcoming.version)
    scene.codec = Codec(server.registry())
    await until(lambda: int(ask_sql(system.url("recorder"), ask)[0][0]) == len(requests), "they are recorded")
    await goes_on(scene)
