"""Decisions: the router's answer, and the declared default whenever there is none."""

import asyncio
from typing import Any

import httpx
import pytest
from client_peers import AsyncPeers, Peers

from flywheel.client import AsyncFlywheel, BudgetRefused, ClientError, Flywheel, Options

FAST = {"linger_s": 0.01, "exit_deadline_s": 0.2}


def test_the_routers_answer_is_the_decision(peers: Peers) -> None:
    with Flywheel(project="shop", team="cx", transport=peers, **FAST) as client:
        decision = client.decide("support", request_id="r1", context={"plan": "pro", "n": 3, "new": True}, user="ann")
    assert (decision.arm, decision.propensity, decision.fallback) == ("cheap", 0.75, False)
    assert (decision.model, decision.params, decision.policy_version) == ("openai/gpt-4o-mini", {"temperature": 0.2}, 3)
    assert peers.asked == [
        {
            "project": "shop",
            "feature": "support",
            "request_id": "r1",
            "context": {"plan": "pro", "n": 3, "new": True},
            "team": "cx",
            "user": "ann",
            "default_arm": "default",
        }
    ]
    assert peers.items["decisions"] == []  # the router logged it itself


@pytest.mark.parametrize(
    "answer", [b"not json", b"[]", b'{"arm": "x"}', b'{"decision_id": 1, "arm": "x", "propensity": "high"}']
)
def test_an_answer_that_cannot_be_read_is_no_decision(peers: Peers, answer: bytes) -> None:
    peers.answer = answer
    with Flywheel(transport=peers, **FAST) as client:
        decision = client.decide("support", default_arm="strong")
    assert (decision.arm, decision.fallback, decision.reason) == ("strong", True, "router_away")


REFUSED = {
    "reason": "budget_exhausted", "budget": "shop/day", "window_end": 9,
    "errors": [{"field": "", "message": "budget shop/day has no room"}],
}  # fmt: skip


def test_the_size_of_the_call_is_told(peers: Peers) -> None:
    with Flywheel(transport=peers, **FAST) as client:
        client.decide("support", request_id="r1", input_tokens=10, max_tokens=20)
        client.decide("support", request_id="r2", input_bytes=0)
    assert [(a.get("input_tokens"), a.get("input_bytes"), a.get("max_tokens")) for a in peers.asked] == [
        (10, None, 20), (None, 0, None),
    ]  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "after_s"), [(402, {}, None), (429, {"retry-after": "1"}, 1.0)])
async def test_what_a_budget_refuses_is_no_fallback(
    status: int, headers: dict[str, str], after_s: float | None
) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=REFUSED, headers=headers))
    with Flywheel(transport=transport, **FAST) as client, pytest.raises(BudgetRefused) as refused:
        client.decide("support", default_arm="strong")
    assert client.fallbacks == 0
    told = refused.value
    assert (told.why, told.budget, told.window_end_us, told.retry_after_s) == (
        "budget_exhausted", "shop/day", 9, after_s,
    )  # fmt: skip
    assert "no room" in str(told)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"reason": "x", "errors": []}'])
def test_a_429_that_is_no_budgets_is_a_router_that_is_away(content: bytes) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(429, content=content))
    with Flywheel(transport=transport, **FAST) as client:
        assert client.decide("support", default_arm="strong").reason == "router_away"
        client.close(0.0)  # nobody takes what it would send


def test_without_a_router_the_declared_default_is_used_flagged_and_logged_later(peers: Peers) -> None:
    peers.away = True
    client = Flywheel(project="shop", transport=peers, **FAST)
    decision = client.decide("support", request_id="r1", default_arm="strong", user="ann")
    assert (decision.arm, decision.propensity, decision.fallback, decision.reason) == (
        "strong",
        1.0,
        True,
        "router_away",
    )
    assert client.fallbacks == 1
    peers.away = False
    assert client.flush()
    (logged,) = peers.items["decisions"]
    assert (logged["event_id"], logged["arm"], logged["propensities"]) == (decision.decision_id, "strong", [1.0])
    assert (logged["fallback"], logged["user"]) == (True, "ann")
    client.close()


def test_a_router_that_is_known_to_be_away_is_not_asked(peers: Peers) -> None:
    peers.away = True
    client = Flywheel(transport=peers, retry_router_after_s=60.0, linger_s=60.0, exit_deadline_s=0.1)
    for _ in range(10):
        assert client.decide("support").fallback
    assert peers.posts == 3
    client.close(0.1)


def test_a_refused_request_falls_back_without_blaming_the_router(peers: Peers) -> None:
    peers.status = 422
    client = Flywheel(transport=peers, linger_s=60.0)
    for _ in range(5):
        assert client.decide("support").fallback
    assert peers.posts == 5
    client.close(0.1)


def test_errors_reach_the_caller_when_asked_for(peers: Peers) -> None:
    peers.away = True
    client = Flywheel(transport=peers, raise_errors=True)
    with pytest.raises(ClientError, match="deciding support"):
        client.decide("support")
    client.close(0.1)


async def test_the_async_client_decides_alike_and_bounds_the_wait(peers: Peers) -> None:
    async with AsyncFlywheel(transport=peers, async_transport=AsyncPeers(peers), **FAST) as client:
        assert (await client.decide("support", request_id="r1")).arm == "cheap"
        peers.away = True
        assert (await client.decide("support", default_arm="strong")).arm == "strong"
        peers.away = False

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError

    async with AsyncFlywheel(transport=peers, async_transport=Slow(), decide_timeout_s=0.02, **FAST) as client:
        assert (await client.decide("support")).reason == "router_away"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "local"}, "mode: 'local'"),
        ({"buffer_events": 0}, "buffer_events: must be positive"),
        ({"decide_timeout_s": -1.0}, "decide_timeout_s"),
        ({"user_hash_key": b""}, "user_hash_key"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)
