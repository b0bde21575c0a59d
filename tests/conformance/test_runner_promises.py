"""Every service's folds, held to the runner's promises over the examples in ``schemas/examples``."""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.events.examples import examples
from flywheel.stream import Fold, MemoryBus, Outgoing, RawRecord, ShardState, StepSpec, TopicPartition
from flywheel.stream.shard import Identity, Shard

SERVICES = ("ingest", "router", "bandit", "budget", "controller", "detector", "notifier", "recorder")
codec = Codec(LocalRegistry.load())


def specs() -> Iterator[StepSpec]:
    """The steps of every service that has a runner."""
    for service in SERVICES:
        wiring = importlib.import_module(f"flywheel_{service}.wiring")
        if hasattr(wiring, "runner_specs"):
            yield from wiring.runner_specs()


def folds(tmp_path: Path) -> list[tuple[StepSpec, Fold]]:
    made = [(spec, spec.make_step(tmp_path / spec.name)) for spec in specs()]
    return [(spec, step) for spec, step in made if isinstance(step, Fold)]


def log_of(topic_names: Sequence[str]) -> dict[TopicPartition, list[RawRecord]]:
    """Every example of every topic, twice, in partition 0, with one record nobody can decode in the middle."""
    logs: dict[TopicPartition, list[RawRecord]] = {}
    for name in topic_names:
        event = topics()[name].event
        values = [codec.encode(event, value) for value in examples(event).values()]
        framed = [*values, b"junk", *values]
        logs[TopicPartition(name, 0)] = [
            RawRecord(name, 0, offset, 1_795_219_300_000, b"key", data) for offset, data in enumerate(framed)
        ]
    return logs


async def run(step: Fold, logs: dict[TopicPartition, list[RawRecord]], seed: int | None) -> tuple[str, list[Outgoing]]:
    """Fold the logs, whole or cut and interleaved by ``seed`` with restarts; returns the digest and the outputs."""
    state, sent = ShardState(None), MemoryBus(lambda: 0)
    at = dict.fromkeys(logs, 0)
    dice = random.Random(seed)
    producer = sent.producer()
    while any(at[p] < len(records) for p, records in logs.items()):
        shard = Shard(number=0, state=state, codec=codec, identity=Identity("conformance", "1"))
        upto = {p: len(r) if seed is None else min(len(r), at[p] + dice.randint(0, 2)) for p, r in logs.items()}
        again = {p: at[p] if seed is None else max(0, at[p] - dice.randint(0, 2)) for p in logs}
        batch = shard.sort({p: logs[p][again[p] : upto[p]] for p in logs})
        assert await shard.process(batch, step)
        await shard.flush(producer)
        at = upto
    assert state.offsets == {p: len(records) for p, records in logs.items()}
    return state.digest(), [Outgoing(r.topic, r.key, r.value) for t in topics() for r in sent.records(t)]


@pytest.mark.parametrize("service", SERVICES)
def test_services_that_consume_say_what_they_run(service: str) -> None:
    consumes = any(service in t.consumers for t in topics().values() if not t.compacted)
    wiring = importlib.import_module(f"flywheel_{service}.wiring")
    assert not consumes or hasattr(wiring, "runner_specs"), f"{service} reads topics and has no runner_specs"


def test_steps_read_what_the_topics_declare() -> None:
    for service in SERVICES:
        wiring = importlib.import_module(f"flywheel_{service}.wiring")
        for spec in wiring.runner_specs() if hasattr(wiring, "runner_specs") else ():
            for topic in spec.topics:
                assert service in topics()[topic].consumers, f"{spec.name} reads {topic}, which does not declare it"


async def test_cuts_interleaving_and_restarts_do_not_change_a_folds_state(tmp_path: Path) -> None:
    found = folds(tmp_path)
    assert found, "no service folds anything"
    for spec, step in found:
        logs = log_of(spec.topics)
        calm, _ = await run(step, logs, None)
        for seed in range(8):
            digest, _ = await run(spec.make_step(tmp_path / f"{spec.name}-{seed}"), logs, seed)
            assert digest == calm, f"{spec.name}: another state with seed {seed}"


async def test_poison_becomes_one_dead_letter_each(tmp_path: Path) -> None:
    for spec, step in folds(tmp_path):
        _, sent = await run(step, log_of(spec.topics), 1)
        for topic in spec.topics:
            letters = [codec.decode(o.value or b"").value for o in sent if o.topic == topics()[topic].dlq]
            undecodable = [d for d in letters if d["reason"] == "undecodable"]
            assert len(undecodable) == 1, f"{spec.name}: {topic}"
            assert undecodable[0]["value"] == b"junk"


async def test_emitted_ids_are_the_same_on_every_run(tmp_path: Path) -> None:
    for spec, step in folds(tmp_path):
        logs = log_of(spec.topics)
        _, first = await run(step, logs, None)
        _, second = await run(spec.make_step(tmp_path / "again"), logs, None)
        assert first == second, spec.name
