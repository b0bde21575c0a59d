"""The gateway against a real provider over HTTP: what callers get, what the provider gets, and what is told."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import httpx
import pytest
from gateway_parts import ASKED, MODELS, gateway, over_tcp

from flywheel.testkit.provider_server import Behaviour, events_of


async def test_a_completion_is_decided_called_and_told(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        reply = await made.ask(headers={"x-request-id": "r1", "x-flywheel-team": "cx"}, user="ann", max_tokens=3)
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == "Paris is the"
        arm = reply.headers["x-flywheel-arm"]
        assert reply.headers["x-flywheel-model"] == MODELS[arm]
        (call,), (decision,) = await made.told(), await made.told("llm-decisions")
        (seen,) = made.provider.seen
    assert seen.headers["authorization"] == "Bearer sk-secret-of-the-test"
    assert seen.model == MODELS[arm].removeprefix("openai/")
    assert seen.body["temperature"] == 0.2 and seen.body["max_tokens"] == 3
    assert decision["arm"] == arm and set(decision["arms"]) == {"strong", "cheap"}, "Anthropic's arm cannot serve this"
    assert sum(decision["propensities"]) == pytest.approx(1.0)
    assert call["decision_id"] == decision["event_id"] == reply.headers["x-flywheel-decision-id"]
    assert (call["request_id"], call["team"], call["variant"], call["attempt"]) == ("r1", "cx", arm, 1)
    assert (call["status"], call["finish_reason"], call["provider"]) == ("OK", "length", "openai")
    assert (call["input_tokens"], call["output_tokens"], call["usage_emitter"]) == (7, 3, "openai_chat")
    rates = {"strong": ("2.5", "10"), "cheap": ("0.15", "0.6")}[arm]
    assert call["cost_usd"] == (7 * Decimal(rates[0]) + 3 * Decimal(rates[1])) / 1_000_000
    assert call["latency_ms"] > 0 and call["ttft_ms"] is None and call["propensity"] == decision["propensity"]


async def test_an_answer_is_told_before_it_is_given(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.producer.away = True
        await made.ask()
        assert made.router.log.waiting == 2, "the decision and the call are in the journal"
        made.producer.away = False
        assert len(await made.told()) == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_a_stream_carries_usage_only_where_it_was_asked_for(tmp_path, monkeypatch, asked):
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with gateway(tmp_path, monkeypatch) as made:
        reply = await made.ask(stream=True, **options)
        (call,) = await made.told()
    events = list(events_of(reply.content))
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert text == "Paris is the capital of France ." and reply.content.endswith(b"data: [DONE]\n\n")
    assert any(event.get("usage") for event in events) is asked
    assert asked or not any("usage" in event for event in events)
    assert (call["output_tokens"], call["streaming"], call["status"]) == (7, True, "OK")
    assert 0 < call["ttft_ms"] <= call["latency_ms"] and call["flags"] == []


async def test_anthropics_messages_are_served_by_arms_of_that_format(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        whole = await made.ask("messages", max_tokens=50, system="Be brief .")
        stream = await made.ask("messages", max_tokens=50, stream=True)
        calls = await made.told()
        seen = made.provider.seen[0]
    assert whole.json()["content"][0]["text"].startswith("Paris") and whole.headers["x-flywheel-arm"] == "large"
    assert seen.headers["x-api-key"] == "sk-secret-of-the-test" and "anthropic-version" in seen.headers
    assert [event["type"] for event in events_of(stream.content)][-1] == "message_stop"
    assert [(c["input_tokens"], c["output_tokens"], c["usage_emitter"]) for c in calls] == [
        (10, 7, "anthropic"), (7, 7, "anthropic"),
    ]  # fmt: skip
    assert all(call["cost_usd"] is not None for call in calls)


async def test_embeddings_and_models(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        reply = await made.http.post("/v1/embeddings", json={"model": "flywheel/support", "input": ["a b", "c"]})
        models = await made.http.get("/v1/models")
        (call,) = await made.told()
    assert len(reply.json()["data"]) == 2
    assert (call["operation"], call["input_tokens"], call["output_tokens"]) == ("EMBEDDINGS", 3, 0)
    assert [each["id"] for each in models.json()["data"]] == ["flywheel/support"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"messages": []}', 400, "model"),
        (b'{"model": "gpt-4o", "messages": []}', 404, "model"),
        (b'{"model": "flywheel/", "messages": []}', 404, "model"),
        (b'{"model": "flywheel/nobody", "messages": []}', 404, "model"),
        (b'{"model": "flywheel/support", "stream": 1}', 400, "stream"),
        (b'{"model": "flywheel/support", "max_tokens": -1}', 400, "max_tokens"),
        (b'{"model": "flywheel/support", "flywheel": {"teem": "a"}}', 400, "flywheel.teem"),
        (b'{"model": "flywheel/support", "flywheel": {"context": {"a": [1]}}}', 422, "context.a"),
        (b'{"model": "flywheel/support", "n": 1000}', 400, "n"),
    ],
)
async def test_what_is_wrong_is_named_in_openais_shape(tmp_path, monkeypatch, body, status, param):
    async with gateway(tmp_path, monkeypatch) as made:
        reply = await made.http.post("/v1/chat/completions", content=body)
        assert made.provider.seen == []
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert error["message"] and error["type"] == "invalid_request_error"


async def test_only_who_shows_the_key_may_call(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, gateway_key="open sesame") as made:
        refused = [await made.ask(headers=headers) for headers in ({}, {"authorization": "Bearer wrong"})]
        served = await made.ask(headers={"authorization": "Bearer open sesame"})
    assert [each.status_code for each in refused] == [401, 401] and served.status_code == 200
    assert made.provider.seen[0].headers["authorization"] == "Bearer sk-secret-of-the-test"


async def test_a_model_by_name_passes_through_where_that_is_set(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, gateway_passthrough=True) as made:
        reply = await made.ask(model="openai/gpt-4o")
        other = await made.ask(model="nobody/gpt-4o")
        (call,) = await made.told()
        assert await made.told("llm-decisions") == []
    assert reply.status_code == 200 and other.status_code == 404
    assert (call["decision_id"], call["feature"], call["output_tokens"]) == (None, None, 7)


async def test_a_failing_arm_is_tried_again_and_then_another_answers(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        first = (await made.ask(headers={"x-request-id": "r1"})).headers["x-flywheel-arm"]
        made.provider.will(MODELS[first].removeprefix("openai/"), Behaviour(status=503))
        reply = await made.ask(headers={"x-request-id": "r1"})
        calls = (await made.told())[1:]
    assert reply.status_code == 200 and reply.headers["x-flywheel-arm"] != first
    assert reply.headers["x-flywheel-attempts"] == "3"
    assert [(c["attempt"], c["variant"], c["status"], c["error_type"]) for c in calls] == [
        (1, first, "ERROR", "http_503"),
        (2, first, "ERROR", "http_503"),
        (3, reply.headers["x-flywheel-arm"], "OK", None),
    ]  # fmt: skip
    assert len({c["decision_id"] for c in calls}) == 1 and [c["cost_usd"] for c in calls][:2] == [None, None]
    assert calls[2]["propensity"] is None, "what was drawn was the other arm"


@pytest.mark.parametrize(
    ("behaviour", "status", "attempts"),
    [
        (Behaviour(status=400), 400, 1),
        (Behaviour(status=401), 502, 2),
        (Behaviour(status=429, headers={"retry-after": "60"}), 429, 2),
        (Behaviour(cut_after=0), 502, 2),
        (Behaviour(delay_s=5.0), 504, 2),
    ],
)
async def test_when_nothing_answers_the_caller_is_told_why(tmp_path, monkeypatch, behaviour, status, attempts):
    async with gateway(tmp_path, monkeypatch, terms={"timeout_s": 0.3}) as made:
        for model in ("gpt-4o", "gpt-4o-mini"):
            made.provider.will(model, behaviour)
        reply = await made.ask()
        calls = await made.told()
    assert reply.status_code == status and reply.json()["error"]["message"]
    assert len(calls) == attempts and {c["status"] for c in calls} <= {"ERROR", "TIMEOUT"}
    assert "sk-secret" not in reply.text


async def test_one_deadline_holds_for_all_attempts(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        for model in ("gpt-4o", "gpt-4o-mini"):
            made.provider.will(model, Behaviour(delay_s=30.0))
        reply = await made.ask(headers={"x-flywheel-deadline-ms": "200"})
        (call,) = await made.told()
    assert reply.status_code == 504 and call["status"] == "TIMEOUT" and call["cost_usd"] is None


async def test_a_stream_that_breaks_under_way_ends_with_an_error_and_is_told(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        for model in ("gpt-4o", "gpt-4o-mini"):
            made.provider.will(model, Behaviour(cut_after=4))
        reply = await made.ask(stream=True)
        (call,) = await made.told()
    events = list(events_of(reply.content))
    assert events[-1]["error"]["code"] == "stream_broken" and b"[DONE]" not in reply.content
    assert call["status"] == "ERROR" and "usage_estimated" in call["flags"] and call["output_tokens"] == 3
    assert call["cost_usd"] > 0


@pytest.mark.parametrize(("policy", "status"), [("close", "CANCELLED"), ("drain", "CANCELLED")])
async def test_when_the_caller_hangs_up_the_cost_is_still_told(tmp_path, monkeypatch, policy, status):
    slow = Behaviour(text="one two three four five six seven eight", gap_s=0.05)
    async with gateway(tmp_path, monkeypatch, gateway_on_disconnect=policy) as made, over_tcp(made) as url:
        for model in ("gpt-4o", "gpt-4o-mini"):
            made.provider.will(model, slow)
        asked = {**ASKED, "stream": True}
        async with httpx.AsyncClient() as http, http.stream("POST", f"{url}/chat/completions", json=asked) as reply:
            async for _ in reply.aiter_lines():
                break
        while not (calls := await made.told()):
            await asyncio.sleep(0.02)
        (call,) = calls
        (seen,) = made.provider.seen
    assert call["status"] == status and call["error_type"] == "caller_gone" and call["cost_usd"] > 0
    if policy == "drain":
        assert call["output_tokens"] == 8 and call["flags"] == [] and seen.finished
    else:
        assert call["output_tokens"] < 8 and "usage_estimated" in call["flags"] and not seen.finished


async def test_what_is_said_is_published_redacted_only_where_that_is_set(tmp_path, monkeypatch):
    said = [{"role": "user", "content": "Write to ann.lee@example.com , please"}]
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        async with gateway(folder, monkeypatch, gateway_content=wanted) as made:
            for model in ("gpt-4o", "gpt-4o-mini"):
                made.provider.will(model, Behaviour(text="I wrote to ann.lee@example.com ."))
            await made.ask(messages=said)
            await made.ask(messages=said, stream=True)
            contents, calls = await made.told("llm-content"), await made.told()
        assert len(contents) == (2 if wanted else 0)
        for content, call in zip(contents, calls, strict=False):
            assert content["call_id"] == call["event_id"] and content["redaction"] == "masked"
            assert "ann.lee" not in json.dumps(content) and "Write to" in content["input_text"]
            assert content["output_text"].startswith("I wrote to")
