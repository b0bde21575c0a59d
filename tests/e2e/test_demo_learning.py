"""The recorded change, played against the policy's mathematics alone: no broker, so five seeds take seconds.

Outcomes reach the policy late, as they do in the running system. The same claim about the running system is checked by
``tests/e2e/demo_seeds.py``. What was played is then shown to the detector's core, set as the demo sets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from flywheel.cli.demo.staging import DETECTOR, load_charter, reward_rule
from flywheel.events import Codec, load_registry
from flywheel.observe import load_settings
from flywheel.policy import Charter, DecideRequest, Summary, build_policy, compile_policy, decide, nano, unit_of
from flywheel.stream import Event, Output, RawRecord
from flywheel.testkit import Answer, Experiment, data_folder, recorded_prime, simulated_prime
from flywheel.testkit.dict_state import DictState
from flywheel_detector.core import DetectFold, IntakeFold, tick_entry
from flywheel_detector.settings import DetectorSettings

CODEC = Codec(load_registry())

LATE = 60
"""Requests between a decision and the moment its outcome counts."""
EVERY = 20
"""Requests between two versions of the policy."""
PER_S = 75
LAST = 300


@dataclass(frozen=True)
class Run:
    share_of_better: float
    reward: float
    fixed: dict[str, float]
    served: list[tuple[int, str, Answer]]
    """Of each request its time, arm and answer."""


def learn(experiment: Experiment, seed: int) -> Run:
    charter, _ = load_charter(experiment)
    reward_of = reward_rule(charter)
    summary, waiting = Summary(), deque[tuple[int, str, float]]()
    served: list[tuple[int, str, Answer]] = []
    fixed = dict.fromkeys(experiment.arms, 0.0)
    reward, policy, number = 0.0, None, 0
    for phase in experiment.phases:
        in_phase = dict.fromkeys(experiment.arms, 0.0)
        for query in experiment.order(phase, seed=seed):
            now_us = 1_795_000_000_000_000 + number * 1_000_000 // PER_S
            while len(waiting) > LATE:
                unit, arm, earned = waiting.popleft()
                summary.add(unit, arm, nano(earned))
            if number % EVERY == 0:
                event = build_policy(
                    charter,
                    charter_revision=1,
                    charter_digest="",
                    policy_version=number + 1,
                    occurred_at_us=now_us,
                    summaries=[summary],
                )
                policy = compile_policy(event)
            request = DecideRequest(charter.project, charter.feature, f"{seed}-{phase.name}-{query.id}")
            decision = decide(policy, request, now_us)
            answer = experiment.answer(phase, decision.arm, query)
            earned = reward_of(answer)
            waiting.append((unit_of(now_us), decision.arm, earned))
            served.append((now_us, decision.arm, answer))
            reward += earned
            number += 1
            for arm in experiment.arms:
                in_phase[arm] += reward_of(experiment.answer(phase, arm, query))
        fixed = {arm: fixed[arm] + in_phase[arm] for arm in fixed}
    better = max(in_phase, key=lambda arm: in_phase[arm])
    arms = [arm for _, arm, _ in served]
    return Run(arms[-LAST:].count(better) / LAST, reward, fixed, served)


def check(run: Run) -> None:
    assert run.share_of_better >= 0.8
    assert run.reward > max(run.fixed.values())


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_moves_to_the_better_model_after_the_simulated_change(seed: int) -> None:
    check(learn(simulated_prime(seed=seed), seed))


@pytest.mark.data
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_moves_to_the_better_model_after_the_recorded_change(seed: int) -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip("the shared data folder is absent: the recorded change is not played")
    check(learn(recorded_prime(folder), seed))


def facts(charter: Charter, number: int, now_us: int, arm: str, answer: Answer) -> list[Event]:
    """The call and the feedback of a request, as the demo reports them."""
    base = {"project": charter.project, "request_id": f"r{number}", "feature": charter.feature, "occurred_at": now_us}
    provider, _, asked = next(each.model for each in charter.arms if each.name == arm).partition("/")
    call = {
        "event_id": f"call-{number}", "provider": provider, "request_model": asked, "variant": arm, "status": "OK",
        "response_model": answer.model.name, "input_tokens": answer.input_tokens, "latency_ms": answer.latency_ms,
        "output_tokens": answer.output_tokens, "cost_usd": answer.cost_usd.quantize(Decimal("1e-12")),
    }  # fmt: skip
    (kind,) = charter.quality
    judged = {"event_id": f"feedback-{number}", "kind": kind, "value": float(answer.correct)}
    return [
        event("llm-calls", "llm_call", base | call, now_us),
        event("llm-feedback", "feedback", base | judged, now_us),
    ]


def event(topic: str, name: str, value: dict[str, Any], now_us: int) -> Event:
    full = CODEC.decode(CODEC.encode(name, value)).value
    return Event(RawRecord(topic, 0, 0, now_us // 1000, b"", b""), name, 1, full)


def noticed(experiment: Experiment, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The alerts about a run, each with the number of requests before it."""
    charter, _ = load_charter(experiment)
    given = {name.removeprefix("FLYWHEEL_").lower(): text for name, text in DETECTOR.items()}
    settings = load_settings(DetectorSettings, **given)
    intake, detect, before, state = IntakeFold(), DetectFold(settings.detect), DictState(), DictState()
    told_us = 0
    for number, (now_us, arm, answer) in enumerate(learn(experiment, seed).served):
        entries: list[Output] = list(intake.fold(0, facts(charter, number, now_us, arm, answer), before).outputs)
        if now_us - told_us >= settings.tick_s * 1e6:
            told_us = now_us
            entries.append(tick_entry(0, ["key"] * 4, now_us))
        events = [event(each.topic, each.event, dict(each.value), now_us) for each in entries]
        for output in detect.fold(0, events, state).outputs:
            yield number, dict(output.value)


@pytest.mark.data
def test_the_detector_notices_the_recorded_change_and_names_the_model_that_answers_now() -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip("the shared data folder is absent: the recorded change is not played")
    experiment = recorded_prime(folder)
    march = len(experiment.order(experiment.phases[0], seed=1))
    alerts = list(noticed(experiment, 1))
    assert min(number for number, _ in alerts) > march, "nothing is noticed where nothing changed"
    at, worse = next((number, alert) for number, alert in alerts if alert["kind"] == "quality")
    assert at < march + 300 and worse["scope"]["arm"] == "gpt4" and worse["severity"] == "critical"
    assert "response_model gpt-4-0613" in worse["attributes"]["changed_before"]
