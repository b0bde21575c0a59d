"""The gateway within hard budgets: what is reserved caps the call, pays for one, and is refused in OpenAI's shape."""

from __future__ import annotations

import contextlib
import json

from budget_parts import budget, declare, spending
from gateway_parts import ASKED, CODEC, priced, providers_file

from flywheel.testkit.provider_server import Behaviour, ProviderServer

TEAM = "default/team"
FROM = {"x-flywheel-team": "cx"}


@contextlib.asynccontextmanager
async def paid(folder, monkeypatch, usd, *, granted=None, **terms):
    """A gateway whose team has a hard budget, of which the guard grants ``granted``."""
    monkeypatch.setenv("TEST_OPENAI_KEY", "sk-test")
    async with ProviderServer() as provider:
        declared = providers_file(folder, provider.url)
        async with spending(folder, {TEAM: granted or usd}, providers_file=declared) as (router, _):
            router.publish(priced())
            declare(router, budget("team", usd, scope=(("team", "cx"),), **terms))
            parts = router.parts.gateway
            await parts.opened()
            try:
                yield router, provider
            finally:
                await parts.close()


async def post(router, request_id, **changes):
    """A chat completion of the team."""
    headers = {**FROM, "x-request-id": request_id}
    return await router.http.post("/v1/chat/completions", json={**ASKED, **changes}, headers=headers)


async def calls_of(router):
    """The calls that were told, in the order of the log."""
    await router.sent()
    return [CODEC.decode(each.value).value for each in router.producer.sent if each.topic == "llm-calls"]


async def test_the_lease_caps_the_call_and_pays_one(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50", max_output_tokens=5) as (router, provider):
        reply = await post(router, "r1", max_tokens=100)
        again = await post(router, "r1", max_tokens=100)
        (call,) = await calls_of(router)
    assert reply.status_code == 200 and reply.json()["choices"][0]["finish_reason"] == "length"
    assert provider.seen[0].body["max_tokens"] == 5 and call["output_tokens"] == 5
    assert again.status_code == 409 and again.json()["error"]["code"] == "request_id_used"
    assert len(provider.seen) == 1, "the reservation paid one call"


async def test_what_fails_for_nothing_is_followed_and_told_after_what_cost(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50") as (router, provider):
        for model in ("gpt-4o", "gpt-4o-mini"):
            provider.will(model, Behaviour(status=503), Behaviour())
        reply = await post(router, "r1")
        calls = await calls_of(router)
    assert reply.status_code == 200
    assert [(call["attempt"], call["status"]) for call in calls] == [(2, "OK"), (1, "ERROR")]
    assert calls[0]["cost_usd"] > 0 and calls[1]["cost_usd"] is None and calls[1]["input_tokens"] is None


async def test_what_may_have_cost_something_is_not_followed(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50") as (router, provider):
        for model in ("gpt-4o", "gpt-4o-mini"):
            provider.will(model, Behaviour(cut_after=0))
        reply = await post(router, "r1")
        (call,) = await calls_of(router)
    assert reply.status_code == 502 and call["cost_usd"] is None and call["error_type"]


async def test_a_spent_budget_is_402_and_one_that_is_waited_for_429(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "0.000001") as (router, provider):
        reply = await post(router, "r1")
        assert provider.seen == [] and await calls_of(router) == []
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (402, "budget_exhausted", "insufficient_quota")
    assert error["budget"] == TEAM and error["window_end"]


async def test_passing_through_is_refused_where_a_budget_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_GATEWAY_PASSTHROUGH", "true")
    async with paid(tmp_path, monkeypatch, "50") as (router, provider):
        reply = await post(router, "r1", model="openai/gpt-4o")
        assert provider.seen == []
    assert reply.status_code == 402 and reply.json()["error"]["code"] == "budget_unreserved"


async def test_what_cannot_be_sent_gives_its_reservation_back(tmp_path, monkeypatch):
    deep = []
    for _ in range(400):
        deep = [deep]
    async with paid(tmp_path, monkeypatch, "50") as (router, provider):
        reply = await post(router, "r1", tools=deep)
        (call,) = await calls_of(router)
        assert provider.seen == []
    assert reply.status_code == 400 and "nested" in reply.json()["error"]["message"]
    assert (call["status"], call["error_type"], call["cost_usd"]) == ("ERROR", "not_writable", None)


async def test_a_stream_whose_caller_left_is_read_to_its_end_where_a_reservation_pays(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50", max_output_tokens=50) as (router, provider):
        for model in ("gpt-4o", "gpt-4o-mini"):
            provider.will(model, Behaviour(text="one two three four five six", gap_s=0.03))
        body = json.dumps({**ASKED, "stream": True}).encode()
        told = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
        headers = [(b"x-flywheel-team", b"cx"), (b"x-request-id", b"r1")]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        sent = []

        async def receive():
            return told.pop(0)

        async def send(message):
            sent.append(message)

        await router.parts.app(scope, receive, send)
        (call,) = await calls_of(router)
        assert provider.seen[0].finished
    assert sent[0]["status"] == 200 and not any(b"six" in each.get("body", b"") for each in sent)
    assert (call["status"], call["error_type"], call["output_tokens"]) == ("CANCELLED", "caller_gone", 6)
    assert call["cost_usd"] > 0 and call["flags"] == []
