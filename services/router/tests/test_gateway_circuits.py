"""Circuits and hedging, seen from outside: arms that fail are not drawn any more, and slow ones are asked twice."""

from __future__ import annotations

from gateway_parts import MODELS, gateway

from flywheel.testkit.provider_server import Behaviour

STRONG, CHEAP = (MODELS[arm].removeprefix("openai/") for arm in ("strong", "cheap"))


async def test_an_arm_that_fails_is_cut_off_told_probed_and_taken_back(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, circuit_least_attempts=4, circuit_open_s=600.0) as made:
        made.provider.will(STRONG, Behaviour(status=500))
        while made.router.parts.gateway.gateway.means.circuits.not_closed == 0:
            assert (await made.ask()).status_code == 200, "the other arm answers meanwhile"
        before = len(made.provider.seen)
        cut = [await made.ask() for _ in range(3)]
        assert {reply.headers["x-flywheel-arm"] for reply in cut} == {"cheap"}
        decision = (await made.told("llm-decisions"))[-1]
        assert (decision["arms"], decision["propensities"]) == (["cheap"], [1.0]), "the draw is among what is left"
        assert all(seen.model == CHEAP for seen in made.provider.seen[before:])
        made.provider.will(STRONG, Behaviour())
        made.router.parts.gateway.gateway.means.circuits.of("default/support/strong")._open_until_s = 0.0  # time passes
        while made.router.parts.gateway.gateway.means.circuits.not_closed:
            await made.ask()
        alerts = await made.told("alerts")
    subjects = {alert["subject"] for alert in alerts}
    assert subjects == {"default/support/strong"} and len({alert["alert_id"] for alert in alerts}) == 1
    states = [alert["attributes"]["circuit"] for alert in alerts]
    assert states == ["open", "half_open", "closed"]
    assert [alert["state"] for alert in alerts][-1] == "resolved" and alerts[0]["attributes"]["reason"] == "error_rate"


async def test_where_every_arm_is_cut_off_the_caller_is_told_at_once(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, circuit_least_attempts=2, circuit_open_s=60.0) as made:
        for model in (STRONG, CHEAP):
            made.provider.will(model, Behaviour(status=500))
        while (reply := await made.ask()).status_code != 503:
            pass
        count = len(made.provider.seen)
        assert (await made.ask()).status_code == 503 and len(made.provider.seen) == count
    assert reply.json()["error"]["code"] == "no_arm" and reply.headers["retry-after"]


async def test_a_slow_request_is_asked_twice_and_both_are_charged(tmp_path, monkeypatch):
    async with gateway(tmp_path, monkeypatch, gateway_hedge="default/support") as made:
        for number in range(60):  # both arms' latency is known
            await made.ask(headers={"x-request-id": f"warm-{number}"})
        made.provider.will(STRONG, Behaviour(delay_s=20.0))
        number, calls = 0, []
        while not any((call["variant"], call["attempt"]) == ("strong", 1) for call in calls):
            reply = await made.ask(headers={"x-request-id": f"slow-{number}"})
            calls = [call for call in await made.told() if call["request_id"] == f"slow-{number}"]
            number += 1
    assert reply.status_code == 200 and reply.headers["x-flywheel-arm"] == "cheap"
    lost, won = sorted(calls, key=lambda call: call["attempt"])
    assert (lost["variant"], lost["status"], lost["shadow"]) == ("strong", "CANCELLED", True)
    assert lost["cost_usd"] > 0 and lost["flags"] == ["usage_estimated"], "its input was sent"
    assert (won["variant"], won["status"], won["shadow"]) == ("cheap", "OK", False) and won["cost_usd"] > 0
