"""Cascades in the gateway: a cheap answer, judged, and the strong arm's where it is doubted; charged and told alike."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from decimal import Decimal

import pytest
from budget_parts import budget, declare
from gateway_parts import ASKED, CODEC, MODELS, gateway, priced
from test_gateway_budgets import calls_of, paid, post

from flywheel.policy.cascade import LEARNED_WEIGHTS, Escalation
from flywheel.routing.texts import SIGNALS
from flywheel.testkit.provider_server import Behaviour, events_of
from flywheel_router.gateway.cascading import question_of

STRONG, CHEAP = (MODELS[arm].removeprefix("openai/") for arm in ("strong", "cheap"))
SURE, UNSURE = math.log(0.95), math.log(0.5)
WEAK, GOOD = "Perhaps Lyon .", "Paris is the capital of France ."
TOLD = ("variant", "attempt", "status", "escalation")


def cascade(version: int = 2, *, cheap="openai/gpt-4o-mini", strong_on=True, **plan):
    """A policy that always draws a cheap arm that escalates to the strong one."""
    declared = Escalation(**{"to": "strong", "above": 0.3, **plan})
    thrifty, strong, *_ = priced()["arms"]
    thrifty = {**thrifty, "name": "thrifty", "model": cheap, "score": 1.0}
    thrifty["params"] = {"temperature": "0.2", "escalate": declared.text()}
    arms = [thrifty, {**strong, "name": "strong", "model": MODELS["strong"], "enabled": strong_on}]
    return priced(version, arms=arms, kind="static", default_arm="thrifty", explore_floor=0.0)


def doubtful(made, cheap=UNSURE, **strong):
    """Let the cheap model be so sure of its answer, and the strong one do as told."""
    made.provider.will(CHEAP, Behaviour(text=WEAK, logprob=cheap))
    made.provider.will(STRONG, Behaviour(text=GOOD, **strong))


def told(calls):
    """What calls say of a cascade."""
    return [tuple(call[name] for name in TOLD) for call in calls]


async def test_a_sure_answer_stays_and_a_doubted_one_is_replaced(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade(calibration=((0.0, 0.0), (0.5, 0.8))))
        doubtful(made, SURE)
        kept = await made.ask(headers={"x-request-id": "r1"})
        doubtful(made, UNSURE)
        replaced = await made.ask(headers={"x-request-id": "r2"})
        calls, decisions = await made.told(), await made.told("llm-decisions")
    assert kept.json()["choices"][0]["message"]["content"] == WEAK
    assert (kept.headers["x-flywheel-arm"], kept.headers["x-flywheel-cascade"]) == ("thrifty", "kept")
    assert replaced.json()["choices"][0]["message"]["content"] == GOOD
    assert replaced.headers["x-flywheel-arm"] == "strong" and replaced.headers["x-flywheel-attempts"] == "2"
    assert (replaced.headers["x-flywheel-cascade"], replaced.headers["x-flywheel-doubt"]) == ("escalated", "0.8")
    assert [each.body.get("logprobs") for each in made.provider.seen] == [True, True, None]
    assert not any("escalate" in each.body for each in made.provider.seen)
    assert kept.json()["choices"][0]["logprobs"] is None, "the caller did not ask for them"
    assert told(calls) == [
        ("thrifty", 1, "OK", "kept"), ("thrifty", 1, "OK", "escalated"), ("strong", 2, "OK", None),
    ]  # fmt: skip
    first, second, third = calls
    assert first["doubt_raw"] == pytest.approx(0.05) and first["doubt"] == pytest.approx(0.08)
    assert second["doubt_raw"] == pytest.approx(0.5) and second["escalation_propensity"] == 1.0
    assert second["decision_id"] == third["decision_id"] and min(second["cost_usd"], third["cost_usd"]) > 0
    assert [each["arm"] for each in decisions] == ["thrifty", "thrifty"], "the plan is what was decided"
    assert decisions[0]["params"]["escalate"] and decisions[0]["propensities"] == [1.0, 0.0]


@pytest.mark.parametrize(("logprob", "text", "calls"), [(SURE, WEAK, 1), (UNSURE, GOOD, 2)])
async def test_a_stream_is_held_back_until_it_is_judged(tmp_path, monkeypatch, logprob, text, calls):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade())
        made.provider.will(CHEAP, Behaviour(text=WEAK, logprob=logprob, gap_s=0.02))  # a piece at a time
        made.provider.will(STRONG, Behaviour(text=GOOD, gap_s=0.02))
        reply = await made.ask(stream=True)
        found = await made.told()
    events = list(events_of(reply.content))
    said = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert said == text and reply.content.endswith(b"data: [DONE]\n\n") and len(found) == calls
    assert reply.headers["x-flywheel-cascade"] == found[0]["escalation"]
    assert not any(choice.get("logprobs") for event in events for choice in event["choices"])
    assert all(call["output_tokens"] == len(words.split()) for call, words in zip(found, (WEAK, GOOD), strict=False))


async def test_who_asks_for_probabilities_gets_them(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade())
        doubtful(made, SURE)
        whole = await made.ask(logprobs=True)
        stream = await made.ask(logprobs=True, stream=True)
    assert len(whole.json()["choices"][0]["logprobs"]["content"]) == len(WEAK.split())
    assert sum(bool(c.get("logprobs")) for e in events_of(stream.content) for c in e["choices"]) == len(WEAK.split())


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [(Behaviour(status=503), "ERROR"), (Behaviour(cut_after=0), "ERROR"), (Behaviour(delay_s=30.0), "TIMEOUT")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_strong_arm_gives_no_answer_the_cheap_one_is_one(
    tmp_path, monkeypatch, behaviour, status, stream
):
    async with gateway(tmp_path, monkeypatch, terms={"timeout_s": 0.5}) as made:
        made.router.publish(cascade())
        doubtful(made)
        made.provider.will(STRONG, behaviour)
        reply = await made.ask(stream=stream)
        calls = await made.told()
    assert reply.status_code == 200 and WEAK.split()[1] in reply.text and "error" not in reply.text
    assert (reply.headers["x-flywheel-cascade"], reply.headers["x-flywheel-arm"]) == ("failed", "thrifty")
    assert told(calls) == [("thrifty", 1, "OK", "escalated"), ("strong", 2, status, None)]


async def test_without_anything_to_read_a_doubt_from_the_answer_stays(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade())
        made.provider.will(CHEAP, Behaviour(text=WEAK, logprob=None), Behaviour(text=""))
        stays, empty = await made.ask(), await made.ask()
        several = await made.ask(n=2)
        calls = await made.told()
    assert stays.headers["x-flywheel-cascade"] == "unjudged" and "x-flywheel-doubt" not in stays.headers
    assert empty.headers["x-flywheel-cascade"] == "escalated", "an empty answer needs no probabilities"
    assert "x-flywheel-cascade" not in several.headers, "which of two answers is taken nobody knows"
    assert calls[0]["escalation"] == "unjudged" and calls[0]["doubt"] is None
    assert calls[1]["doubt_raw"] == 1.0


async def test_the_form_of_an_answer_is_judged_in_both_formats(tmp_path, monkeypatch):
    sorry = Behaviour(text="I'm sorry, but I cannot help with that .")
    asked = {"response_format": {"type": "json_object"}}
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade(doubt="form", above=0.5))
        made.provider.will(CHEAP, Behaviour(text='{"a": 1}'), Behaviour(text="a: 1"))
        good, bad = await made.ask(**asked), await made.ask(**asked)
        haiku, sonnet = "anthropic/claude-3-5-haiku-latest", "anthropic/claude-3-5-sonnet-latest"
        event = cascade(3, doubt="form", above=0.5, cheap=haiku)
        event["arms"][1]["model"] = sonnet
        made.router.publish(event)
        made.provider.will(haiku.partition("/")[2], sorry)
        refused = await made.ask("messages", max_tokens=50, stream=True)
        calls = await made.told()
    assert [each.headers["x-flywheel-cascade"] for each in (good, bad, refused)] == ["kept", "escalated", "escalated"]
    assert "logprobs" not in made.provider.seen[0].body
    assert "capital" in refused.text and "sorry" not in refused.text
    assert calls[-2]["doubt_raw"] == pytest.approx(0.8) and calls[-1]["request_model"] == sonnet.partition("/")[2]


async def test_a_learned_doubt_reads_the_question_and_the_answer(tmp_path, monkeypatch):
    weights = [0.0] * LEARNED_WEIGHTS
    weights[1 + 3] = weights[1 + SIGNALS + 3] = 0.2  # numbers in the question and in the answer, in logarithms
    parts = [{"type": "text", "text": "What is 1 + 2 ?"}, {"type": "text", "text": "And 3 + 4 ?"}]
    messages = [*ASKED["messages"], {"role": "user", "content": parts}, {"role": "assistant", "content": "9 9 9"}]
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade(doubt="learned", above=0.4, weights=tuple(weights)))
        made.provider.will(CHEAP, Behaviour(text="It is 3 ."))
        easy, hard = await made.ask(), await made.ask(messages=messages)
        calls = await made.told()
    assert [each.headers["x-flywheel-cascade"] for each in (easy, hard)] == ["kept", "escalated"]
    assert calls[0]["doubt_raw"] == pytest.approx(0.2 * math.log(2))
    assert calls[1]["doubt_raw"] == pytest.approx(0.2 * (math.log(5) + math.log(2)))
    assert "logprobs" not in made.provider.seen[0].body and "escalate" not in calls[0]["params"]


@pytest.mark.parametrize(
    "messages", [None, "x", [], [5], [{"role": "user"}], [{"role": "user", "content": [5, {"text": 5}]}]]
)
def test_a_question_that_is_none_is_empty(messages):
    assert question_of(messages) == ""


async def test_an_arm_that_may_not_serve_is_not_escalated_to(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, circuit_least_attempts=2, circuit_open_s=600.0) as made:
        made.router.publish(cascade(strong_on=False))
        doubtful(made)
        off = await made.ask()
        made.router.publish(cascade(3))
        made.provider.will(STRONG, Behaviour(status=500))
        while made.router.parts.gateway.gateway.means.circuits.not_closed == 0:
            assert (await made.ask()).headers["x-flywheel-cascade"] == "failed"
        cut = await made.ask()
        calls = await made.told()
    assert [each.headers["x-flywheel-cascade"] for each in (off, cut)] == ["unavailable", "unavailable"]
    assert calls[0]["escalation"] == calls[-1]["escalation"] == "unavailable" and calls[-1]["doubt"] == 0.5


async def test_near_the_threshold_lots_are_drawn_once_for_a_request(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade(above=0.5, width=0.2))
        doubtful(made)
        replies = [await made.ask(headers={"x-request-id": f"r{n}"}) for n in range(60)]
        again = [await made.ask(headers={"x-request-id": f"r{n}"}) for n in range(10)]
        calls = await made.told()
    verdicts = [reply.headers["x-flywheel-cascade"] for reply in replies]
    # 60 fair lots: outside 15 to 45 with probability 1e-4.
    assert 15 <= verdicts.count("escalated") <= 45 and set(verdicts) == {"kept", "escalated"}
    assert [reply.headers["x-flywheel-cascade"] for reply in again] == verdicts[:10]
    judged = [call for call in calls if call["escalation"]]
    assert [call["escalation_propensity"] for call in judged] == pytest.approx([0.5] * 70)


async def test_decide_tells_the_plan_to_who_calls_the_model_himself(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade(calibration=((0.1, 0.0), (0.6, 0.9)), width=0.1))
        reply = await made.http.post("/v1/decide", json={"feature": "support", "request_id": "r1"})
    plan = Escalation.model_validate_json(json.dumps(reply.json()["params"]["escalate"]))
    assert (plan.to, plan.above, plan.doubt, plan.width) == ("strong", 0.3, "logprobs", 0.1)
    assert plan.calibrated(0.6) == 0.9


async def test_what_was_said_of_both_answers_is_published(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, gateway_content=True) as made:
        made.router.publish(cascade())
        doubtful(made)
        await made.ask()
        contents, calls = await made.told("llm-content"), await made.told()
    by_call = {call["event_id"]: call["variant"] for call in calls}
    assert {by_call[each["call_id"]]: each["output_text"] for each in contents} == {"thrifty": WEAK, "strong": GOOD}


# -- within hard budgets -----------------------------------------------------------------------------------------------


async def test_one_reservation_pays_both_calls(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50", max_output_tokens=100) as (router, provider):
        router.publish(cascade())
        provider.will(CHEAP, Behaviour(text=WEAK, logprob=UNSURE))
        reply = await post(router, "r1")
        calls = await calls_of(router)
        (decision,) = [CODEC.decode(each.value).value for each in router.producer.sent if each.topic == "llm-decisions"]
    assert reply.status_code == 200 and reply.headers["x-flywheel-cascade"] == "escalated"
    assert [each.body["max_tokens"] for each in provider.seen] == [100, 100]
    spent = sum(call["cost_usd"] for call in calls)
    (reservation,) = decision["reservations"]
    assert told(calls) == [("thrifty", 1, "OK", "escalated"), ("strong", 2, "OK", None)]
    assert 0 < spent <= reservation["bound_usd"]
    # The bytes of the body as input and 100 tokens of output, at the rates of gpt-4o and gpt-4o-mini.
    bound = (2.5 + 0.15) * decision["input_tokens_bound"] + (10 + 0.6) * 100
    assert float(reservation["bound_usd"]) == pytest.approx(bound * 1e-6, rel=0.35)
    assert float(reservation["bound_usd"]) >= bound * 1e-6


async def test_where_money_is_short_the_cheap_call_is_made_and_stays(tmp_path, monkeypatch):
    # Some 200 bytes of input and 100 tokens of output: 0.0001 USD for the cheap call, 0.0015 for the strong one.
    async with paid(tmp_path, monkeypatch, "0.0008", max_output_tokens=100) as (router, provider):
        router.publish(cascade())
        provider.will(CHEAP, Behaviour(text=WEAK, logprob=UNSURE))
        reply = await post(router, "r1")
        (call,) = await calls_of(router)
    assert reply.headers["x-flywheel-cascade"] == "unpaid" and len(provider.seen) == 1
    assert call["escalation"] == "unpaid" and call["doubt"] == pytest.approx(0.5)


async def test_an_arm_of_another_budget_is_not_paid_by_this_one(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50", max_output_tokens=100) as (router, provider):
        router.publish(cascade())
        declare(router, budget("dear", "50", scope=(("model", "gpt-4o"),)))
        provider.will(CHEAP, Behaviour(text=WEAK, logprob=UNSURE))
        reply = await post(router, "r1")
    assert reply.headers["x-flywheel-cascade"] == "unpaid" and len(provider.seen) == 1


async def test_many_cascades_at_once_never_spend_more_than_there_is(tmp_path, monkeypatch):
    # 200 to 300 bytes and 100 tokens: bounds of 0.0001 USD for the cheap call and 0.0017 for the strong one.
    async with paid(tmp_path, monkeypatch, "0.01", max_output_tokens=100) as (router, provider):
        router.publish(cascade())
        provider.will(CHEAP, Behaviour(text=WEAK, logprob=UNSURE))
        provider.will(STRONG, Behaviour(text=" ".join(["word"] * 100)))
        replies = await asyncio.gather(*(post(router, f"r{n}") for n in range(60)))
        calls = await calls_of(router)
    verdicts = Counter(reply.headers.get("x-flywheel-cascade") for reply in replies)
    assert verdicts["escalated"] > 2 and verdicts["unpaid"] > 2, "as long as it pays both, then one, then none"
    assert set(verdicts) <= {"escalated", "unpaid", None}
    assert {reply.status_code for reply in replies} <= {200, 402, 429}
    assert len(provider.seen) == len(calls) and 0 < sum(call["cost_usd"] for call in calls) <= Decimal("0.01")


async def test_a_free_retry_before_the_cascade_is_told_after_both_calls(tmp_path, monkeypatch):
    async with paid(tmp_path, monkeypatch, "50", max_output_tokens=100) as (router, provider):
        router.publish(cascade())
        provider.will(CHEAP, Behaviour(status=503), Behaviour(text=WEAK, logprob=UNSURE))
        await post(router, "r1")
        calls = await calls_of(router)
    assert told(calls) == [
        ("thrifty", 2, "OK", "escalated"), ("strong", 3, "OK", None), ("thrifty", 1, "ERROR", None),
    ]  # fmt: skip


async def test_the_deadline_holds_for_both_calls(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch) as made:
        made.router.publish(cascade())
        doubtful(made, delay_s=30.0)
        async with asyncio.timeout(20):
            reply = await made.ask(headers={"x-flywheel-deadline-ms": "1500"})
    assert reply.status_code == 200 and reply.headers["x-flywheel-cascade"] == "failed"
