"""The same log read twice from nothing, on a real broker: the bandit's state and policies are the same, byte for byte.

The two runs differ in the size of their batches and so in how the topics interleave. What the first run wrote is
deleted before the second, which therefore learns from the facts alone.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.local.topic_admin import create_topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.policy import compile_policy, parse_charter
from flywheel.policy.feature_spec import encoder_of
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel.testkit.draining import end_offsets, read_topic, state_digests, states_behind
from flywheel_bandit.core import INPUTS
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import JOIN, LEARN, LEARN_TOPICS, run_stages

pytest_plugins = ["flywheel.local.fixtures"]

T0 = 1_750_000_000_000_000
CHARTER = """
feature: answers
quality: {user.thumb: 1.0}
weights: {cost: 0.2}
constraints: {p95_latency_ms: 500, usd_per_hour: 5}
arms: [{name: strong, model: openai/gpt-4o}, {name: cheap, model: openai/gpt-4o-mini}]
policy: {kind: %s, explore_floor: 0.02}
attribution_window: 30s
"""
CONTEXT = "{name: chars, kind: number, low: 0, high: 100}, {name: language, kind: category, values: [en, de]}"
FEATURES = {
    "answers": "thompson, half_life: 100 outcomes", "titles": "thompson_gaussian, diversity: 0.1",
    "tags": "ucb1, half_life: 100 outcomes", "trials": "experiment",
    "routes": f"linear_thompson, half_life: 100 outcomes, features: [{CONTEXT}]",
}  # fmt: skip
DERIVED = ("llm-outcomes", "arm-summaries", "policies")
REQUESTS = 1500


def charter_text(feature: str) -> str:
    return CHARTER.replace("answers", feature) % FEATURES[feature]


def charters() -> list[Output]:
    found = []
    for feature in FEATURES:
        text = charter_text(feature)
        value = {
            "event_id": event_id("charter", feature), "project": "default", "feature": feature, "occurred_at": T0,
            "revision": 1, "charter_yaml": text, "digest": event_id(text),
        }  # fmt: skip
        found.append(Output("charters", f"default/{feature}", "charter", value))
    return found


def facts(seed: int) -> list[Output]:
    """Requests with missing, repeated, late and disordered parts, over several windows of event time."""
    random = Random(seed)
    linear = parse_charter(charter_text("routes")).policy
    encoder = encoder_of(linear.feature_records)
    found: list[tuple[int, Output]] = []
    for number in range(REQUESTS):
        request, at = f"request-{number}", T0 + number * 400_000
        feature, arm = random.choice(sorted(FEATURES)), random.choice(["strong", "cheap"])
        base = {"project": "default", "request_id": request, "feature": feature}
        parts = [("llm-decisions", "decision", at, {
            "policy": feature, "policy_version": 1, "policy_kind": "thompson_beta", "arm": arm, "propensity": 0.5,
            "reason": "policy", "decider": "router",
        })]  # fmt: skip
        if feature == "routes":
            context = {"chars": random.uniform(-10, 120), "language": random.choice(["en", "de", "fr", None])}
            parts[0][3].update(features=list(encoder.encode(context)), encoding=linear.encoding)
        for attempt in range(random.choice([0, 1, 1, 1, 2])):
            parts.append(("llm-calls", "llm_call", at + 1000 * attempt, {
                "provider": "openai", "request_model": arm, "status": random.choice(["OK", "OK", "ERROR"]),
                "cost_usd": Decimal(random.randrange(100)) / 10_000, "latency_ms": 100.0, "attempt": attempt + 1,
                "output_tokens": 42 if arm == "cheap" else random.randrange(10, 900),
            }))  # fmt: skip
        for opinion in range(random.choice([0, 1, 1, 2])):
            late = random.choice([1, 5, 45]) * 1_000_000 + opinion
            parts.append(("llm-feedback", "feedback", at + late, {"kind": "user.thumb", "value": random.random()}))
        for topic, event, occurred_at, more in parts:
            identity = event_id(event, request, occurred_at)
            output = Output(topic, request, event, {**base, "event_id": identity, "occurred_at": occurred_at, **more})
            found += [(occurred_at + random.randrange(3_000_000), output)] * random.choice([1, 1, 1, 2])
    return [output for _, output in sorted(found, key=lambda item: item[0])]


async def forget(bootstrap: str, names: tuple[str, ...]) -> None:
    """Delete topics and make them again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
        while set(names) & set(await admin.list_topics()):
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await create_topics(bootstrap, [topics()[name] for name in names])


async def behind(bootstrap: str, state_dir: Path) -> int:
    """How many records the bandit's states have not folded or not sent on. The second step's topics are looked at once
    the first has told everything."""
    for step, names in ((JOIN, INPUTS), (LEARN, LEARN_TOPICS)):
        left = states_behind(state_dir / "bandit" / step, await end_offsets(bootstrap, names))
        if left:
            return left
    return 0


async def run_once(bootstrap: str, state_dir: Path, batch_records: int) -> dict[str, str]:
    """Run the bandit over the whole log from nothing; return the digest of every shard's state."""
    settings = load_settings(
        BanditSettings,
        kafka_bootstrap=bootstrap,
        state_dir=state_dir,
        group=state_dir.name,
        batch_records=batch_records,
        poll_ms=20,
    )
    stop = asyncio.Event()
    bus = KafkaBus(bootstrap, client_id="bandit")
    task = asyncio.create_task(run_stages(settings, bus, Metrics(), Health(), stop))
    async with asyncio.timeout(150):
        while await behind(bootstrap, state_dir):
            assert not task.done() or task.result()
            await asyncio.sleep(0.2)
    stop.set()
    await task
    return dict(state_digests(state_dir))


async def newest_policies(bootstrap: str) -> dict[bytes | None, bytes | None]:
    """Return the last policy of each feature as it lies on the topic."""
    return {record.key: record.value for record in await read_topic(bootstrap, "policies")}


@pytest.mark.broker
@pytest.mark.timeout(400)
async def test_the_log_replayed_twice_gives_the_same_state_and_policies_byte_for_byte(private_kafka, tmp_path):
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap, client_id="facts"), Codec(LocalRegistry.load()), source="test")
    await publisher.start()
    await publisher.publish(charters())
    everything = facts(7)
    for start in range(0, len(everything), 100):
        await publisher.publish(everything[start : start + 100])
    await publisher.stop()

    first = await run_once(bootstrap, tmp_path / "first", batch_records=5000)
    policies = await newest_policies(bootstrap)
    await forget(bootstrap, DERIVED)
    second = await run_once(bootstrap, tmp_path / "second", batch_records=60)

    assert len(first) == 8, "both stages hold four shards"
    assert first == second
    assert len(policies) == len(FEATURES)
    assert policies == await newest_policies(bootstrap)
    codec = Codec(LocalRegistry.load())
    learned = {key: codec.decode(value).value for key, value in policies.items()}
    assert all(policy["outcomes"] > 50 for policy in learned.values())
    assert [trial["name"] for trial in learned[b"default/trials"]["trials"]] == ["strong", "cheap"]
    alike = {one["name"]: one["charge"] for one in learned[b"default/titles"]["diversity"]}
    assert alike["strong"] == 0.0 < alike["cheap"]
    by_context = compile_policy(learned[b"default/routes"])
    chances = {
        chars: by_context.distribution(0b11, by_context.encode({"chars": chars, "language": "en"})).propensities
        for chars in (0.0, 100.0)
    }
    assert chances[0.0] != chances[100.0], "the policy learned from the vectors, not only from the rewards"
