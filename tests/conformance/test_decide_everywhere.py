"""One request, three ways to decide it: HTTP, gRPC and in the caller's process answer alike and log the same fact."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import pytest

from flywheel.client import AsyncFlywheel, Decision, Flywheel
from flywheel.control import Item, Record
from flywheel.events import Codec, event_id, load_registry
from flywheel.observe import load_settings
from flywheel.policy.feature_spec import FeatureSpec, encoder_of, encoding_of
from flywheel.stream import MemoryBus, Output, Publisher
from flywheel_router.settings import RouterSettings
from flywheel_router.v1 import decide_pb2, decide_pb2_grpc
from flywheel_router.wiring import run

CONTEXTS: list[dict[str, Any]] = [
    {},
    {"plan": "pro"},
    {"plan": "free", "n_chars": 12},
    {"plan": "pro", "n_chars": 4000.5, "beta": True},
    {"plan": None, "other": "x"},
    {"plan": "free", "n_chars": 900, "other": "x y"},
]


def policy(kind: str, version: int = 1, **changes: Any) -> dict[str, Any]:
    """A policy of its own feature, with rules on text, number and truth."""
    rules = {
        "strong": [],
        "cheap": [{"field": "n_chars", "operator": "lt", "value": "1000"}],
        "large": [
            {"field": "plan", "operator": "in", "value": '["pro", "team"]'},
            {"field": "beta", "operator": "ne", "value": "false"},
        ],
    }
    arms = [
        {
            "name": name, "model": f"openai/{name}", "prompt_name": None, "prompt_version": None,
            "params": {"temperature": "0.2", "seed": "7"}, "eligible_when": arm_rules, "enabled": True, "weight": 20.0,
            "mean": 0.5 + place / 10, "variance": 0.01, "alpha": 10.0 + place, "beta": 8.0, "score": 0.6 + place / 10,
            "propensity": 0.0,
        }
        for place, (name, arm_rules) in enumerate(rules.items())
    ]  # fmt: skip
    event = {
        "event_id": event_id("policy", "default", kind, version), "project": "default", "feature": kind,
        "occurred_at": 1_790_000_000_000_000, "policy_version": version, "kind": kind, "charter_digest": "d",
        "charter_revision": 1, "default_arm": "strong", "explore_floor": 0.05, "epsilon": 0.1, "stale_after_s": 0.0,
        "outcomes": 60, "arms": arms, "context": ["plan", "n_chars", "beta"],
    }  # fmt: skip
    if kind in LINEAR:
        event |= linear_fields()
    return event | changes


def linear_fields() -> dict[str, Any]:
    """What a linear kind adds: beliefs at the size of the request, of its plan and of a text that is not logged."""
    features = [
        FeatureSpec(name="n_chars", kind="number", low=0.0, high=4000.0),
        FeatureSpec(name="plan", kind="category", values=["free", "pro"]),
        FeatureSpec(name="other", kind="text", buckets=2),
    ]
    records = [feature.record() for feature in features]
    size = len(encoder_of(records).slots)
    root = [0.2 / (1 + row - column) for row in range(size) for column in range(row + 1)]
    arms = [
        {"name": name, "coefficients": [0.5, slope, *[0.1 * slope] * (size - 2)], "root": root}
        for name, slope in (("strong", 0.3), ("cheap", -0.4), ("large", 0.2))
    ]
    return {
        "features": records, "encoding": encoding_of(records), "on_missing": "encode", "scale": 1.0, "gamma": 20.0,
        "linear": arms,
    }  # fmt: skip


@dataclass(frozen=True)
class Router:
    """A running router and the bus behind it."""

    bus: MemoryBus
    url: str
    grpc_target: str

    def logged(self) -> dict[str, dict[str, Any]]:
        codec = Codec(load_registry())
        events = [codec.decode(record.value or b"").value for record in self.bus.records("llm-decisions")]
        return {event["event_id"]: event for event in events}


@contextlib.asynccontextmanager
async def router(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *policies: dict[str, Any], controls: Sequence[Record] = ()
) -> AsyncIterator[Router]:
    """A router on real sockets and an in-memory bus."""
    bus = MemoryBus()
    publisher = Publisher(bus, Codec(load_registry()), source="bandit")
    await publisher.start()
    await publisher.publish([Output("policies", f"default/{e['feature']}", "policy", e) for e in policies])
    await publisher.publish([Output("controls", r.key, "control", r.event(), r.place) for r in controls])
    announced = folder / "ports.json"
    announced.unlink(missing_ok=True)
    monkeypatch.setenv("FLYWHEEL_PORT_FILE", str(announced))
    stop = asyncio.Event()
    settings = load_settings(RouterSettings, port=0, grpc_port=0, state_dir=folder)
    running = asyncio.create_task(run(settings, stop, bus))
    async with asyncio.timeout(120):
        while not (announced.exists() and "http" in (ports := orjson.loads(announced.read_bytes())["ports"])):
            await asyncio.sleep(0.02)
            assert not running.done(), running.result()
        url = f"http://127.0.0.1:{ports['http']}"
        async with httpx.AsyncClient() as http:
            while (await http.get(f"{url}/ready")).status_code != 200:
                await asyncio.sleep(0.02)
    try:
        yield Router(bus, url, f"127.0.0.1:{ports['grpc']}")
    finally:
        stop.set()
        await running


def as_message(feature: str, request_id: str, context: dict[str, Any]) -> decide_pb2.DecideRequest:
    message = decide_pb2.DecideRequest(feature=feature, request_id=request_id, default_arm="mine")
    for name, value in context.items():
        made = message.context[name]
        if value is not None:
            setattr(made, "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number", value)
    return message


def essence(answer: Any) -> tuple[Any, ...]:
    """What must agree, from a client's decision or a gRPC answer."""
    params = answer.params if isinstance(answer, Decision) else {k: orjson.loads(v) for k, v in answer.params.items()}
    return (
        answer.decision_id, answer.arm, answer.propensity, dict(answer.propensities), answer.model or None,
        dict(params), answer.policy_version, answer.policy_kind, answer.fallback, answer.reason,
    )  # fmt: skip


LINEAR = ["linear_thompson", "linear_ucb", "squarecb"]
KINDS = ["thompson_beta", "thompson_gaussian", "ucb1", "ucb_v", "epsilon_greedy", "static", "experiment", *LINEAR]
HELD = {
    "disabled": (Item("c1", "disable", ("strong",)), Item("over", "disable", ("cheap",), expires_us=1)),
    "pinned": (Item("c2", "pin", ("cheap",)),),
    "paused": (Item("c3", "pause"), Item("c4", "disable", ("strong",))),
}
"""What the controller has in force for features of their own."""


CHARGED = {"charged": "thompson_beta", "charged-by-context": "linear_thompson"}
"""Features whose constraints charge an arm, with their kind."""


def charged() -> list[dict[str, Any]]:
    """Standings of a policy whose constraints charge the strong arm and hold the large one to exploring."""
    return [
        {"name": name, "charge": charge, "breaks": None, "unproven": unproven, "efficient": True, "dominated_by": [],
         "measures": []}
        for name, charge, unproven in (("strong", 0.1, None), ("cheap", 0.0, None), ("large", 0.0, "safety.leak"))
    ]  # fmt: skip


def strongest(events: dict[str, dict[str, Any]], feature: str) -> float:
    """The largest share that the strong arm had of a feature's decisions with another arm beside it."""
    logged = [dict(zip(e["arms"], e["propensities"], strict=True)) for e in events.values() if e["feature"] == feature]
    return max(shares["strong"] for shares in logged if "cheap" in shares)


async def test_http_grpc_and_in_process_decide_and_log_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = [*KINDS, "strict", "stale", "unknown", *CHARGED, *HELD]
    policies = [*(policy(kind) for kind in KINDS), policy("ucb1", feature="stale", stale_after_s=1.0)]
    policies.append(policy("linear_thompson", feature="strict", on_missing="default"))
    policies += [policy("thompson_beta", feature=feature) for feature in HELD]
    policies += [policy(kind, feature=feature, standings=charged()) for feature, kind in CHARGED.items()]
    controls = [Record("default", feature, "controller", 1, 0, items) for feature, items in HELD.items()]
    asked = [(f"{feature}-{n}", feature, context) for feature in features for n, context in enumerate(CONTEXTS)]
    answers: dict[str, list[tuple[Any, ...]]] = {}
    facts: dict[str, dict[str, dict[str, Any]]] = {}
    for way in ("http", "grpc", "in_process"):
        async with router(tmp_path / way, monkeypatch, *policies, controls=controls) as running:
            if way == "grpc":
                async with grpc.aio.insecure_channel(running.grpc_target) as channel:
                    stub = decide_pb2_grpc.DeciderStub(channel)
                    replies: list[Any] = [await stub.Decide(as_message(f, r, c)) for r, f, c in asked]
            else:
                mode = "remote" if way == "http" else "in_process"
                async with AsyncFlywheel(router_url=running.url, mode=mode, decide_timeout_s=10.0) as client:
                    replies = [await client.decide(f, request_id=r, context=c, default_arm="mine") for r, f, c in asked]
                    assert await client.flush()
                    assert client.fallbacks == 0
            answers[way] = [essence(reply) for reply in replies]
            async with asyncio.timeout(120):
                while len(running.logged()) < len(asked):
                    await asyncio.sleep(0.02)
            facts[way] = running.logged()
    assert answers["http"] == answers["grpc"] == answers["in_process"]
    varying = {"occurred_at", "policy_age_ms", "decider"}
    plain = {
        way: {key: {k: v for k, v in event.items() if k not in varying} for key, event in found.items()}
        for way, found in facts.items()
    }
    assert plain["http"] == plain["grpc"] == plain["in_process"]
    assert {event["decider"] for event in facts["in_process"].values()} == {"client"}
    reasons = {"policy", "stale_policy", "unknown_feature", "nothing_eligible", "paused", "no_context"}
    assert {answer[-1] for answer in answers["http"]} == reasons
    seen = [event for event in facts["http"].values() if event["policy_kind"] in LINEAR and event["reason"] == "policy"]
    assert seen and all(event["features"] and event["encoding"] for event in seen)
    assert not any(event["features"] for event in facts["http"].values() if event["policy_kind"] not in LINEAR)
    under = {event["feature"]: event["control"] for event in facts["http"].values() if event["control"]}
    assert under == {"disabled": "c1", "pinned": "c2", "paused": "c3+c4"}
    held = [event for event in facts["http"].values() if event["feature"] in HELD]
    assert not any(event["arm"] == "strong" or "strong" in event["arms"] for event in held)
    for feature, kind in CHARGED.items():
        assert strongest(facts["http"], feature) < strongest(facts["http"], kind)


async def test_a_client_follows_new_policies_and_keeps_deciding_without_a_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with router(tmp_path, monkeypatch, policy("static")) as running:
        client = Flywheel(
            router_url=running.url,
            mode="in_process",
            decide_timeout_s=10.0,
            spill_dir=tmp_path / "spill",
            linger_s=0.01,
        )
        assert (await asyncio.to_thread(client.decide, "static")).policy_version == 1
        publisher = Publisher(running.bus, Codec(load_registry()), source="bandit")
        await publisher.start()
        await publisher.publish([Output("policies", "default/static", "policy", policy("static", 2))])
        async with asyncio.timeout(120):
            while (await asyncio.to_thread(client.decide, "static")).policy_version != 2:
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(client.flush)
    alone = await asyncio.to_thread(client.decide, "static", request_id="alone")
    assert (alone.policy_version, alone.reason, alone.fallback) == (2, "policy", False)
    assert not await asyncio.to_thread(client.close, 0.2)
    async with router(tmp_path, monkeypatch, policy("static", 2)) as running:
        with Flywheel(router_url=running.url, spill_dir=tmp_path / "spill") as later:
            assert await asyncio.to_thread(later.flush)
        async with asyncio.timeout(120):
            while alone.decision_id not in running.logged():
                await asyncio.sleep(0.02)
