"""``flywheel whatif`` where contextual policies decided: their vectors and propensities are in the recorder's tables,
so the policy that logged is found again exactly, and another one's value holds against the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from flywheel.policy import CompiledPolicy, DecideRequest, compile_policy, decide, decision_event, parse_charter
from flywheel.policy.moments import MomentSummary, outcome_vector
from flywheel.policy.posterior import build_policy
from flywheel.policy.summary import Summary, nano, unit_of

from .conftest import insert, sql_endpoint

START = datetime(2026, 11, 20, tzinfo=UTC)
CHARTER = """
feature: answers
quality: {judge: 1.0}
arms:
  - {name: cheap, model: a/cheap}
  - {name: strong, model: a/strong}
policy:
  kind: linear_thompson
  explore_floor: 0.1
  features:
    - {name: chars, kind: number, low: 0, high: 1000}
    - {name: german, kind: flag}
context: [chars, german]
"""
DECISIONS, EVERY = 2400, 400


def mean(arm: str, context: Mapping[str, Any]) -> float:
    """Cheap is good at short requests, strong at long ones."""
    long = context["chars"] / 1000
    return 0.2 + 0.6 * long if arm == "strong" else 0.75 - 0.5 * long - 0.1 * context["german"]


class Wheel:
    """Decides with a linear policy that learns as it goes; keeps what would be recorded."""

    def __init__(self) -> None:
        self.rng, self.charter = np.random.default_rng(20_261_122), parse_charter(CHARTER)
        self.summary, self.moments = Summary(), MomentSummary()
        self.decisions: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.contexts: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def publish(self, version: int, at: datetime) -> CompiledPolicy:
        event = build_policy(
            self.charter, charter_revision=1, charter_digest="", policy_version=version,
            occurred_at_us=round(at.timestamp() * 1e6), summaries=[self.summary], moments=[self.moments],
        )  # fmt: skip
        self.events.append(dict(event))
        return compile_policy(event)

    def turn(self) -> None:
        for number in range(DECISIONS):
            at = START + timedelta(seconds=number)
            if number % EVERY == 0:
                policy = self.publish(1 + number // EVERY, at)
            context = {"chars": float(self.rng.integers(0, 1000)), "german": bool(self.rng.random() < 0.5)}
            request = DecideRequest("default", "answers", f"request-{number}", context)
            event = decision_event(decide(policy, request, 0), request, occurred_at_us=0)
            reward = float(self.rng.random() < mean(event["arm"], context))
            unit = unit_of(round(at.timestamp() * 1e6))
            self.summary.add(unit, event["arm"], nano(reward))
            self.moments.add(unit, event["arm"], outcome_vector(event["features"], reward, self.charter.reward_range))
            self.contexts.append(context)
            self.decisions.append({**event, "occurred_at": at})
            self.outcomes.append({
                "project": "default", "request_id": event["request_id"], "occurred_at": at, "feature": "answers",
                "event_id": f"outcome-{number}", "decision_id": event["event_id"], "fallback": False, "calls": 1,
                "policy_version": event["policy_version"], "arm": event["arm"], "propensity": event["propensity"],
                "reward": reward, "status": "complete", "revision": 1, "completed_at": at, "errors": 0,
            })  # fmt: skip

    def truth(self, policy: CompiledPolicy, contexts: list[dict[str, Any]]) -> float:
        """What a policy earns on average on these contexts."""
        values = []
        for context in contexts:
            chances = policy.distribution(policy.full_mask, policy.encode(context))
            values.append(sum(p * mean(a, context) for a, p in zip(chances.names, chances.propensities, strict=True)))
        return float(np.mean(values))


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    made = Wheel()
    made.turn()
    return made


@pytest.fixture(scope="module")
def clickhouse(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a recorder's SQL endpoint over the recorded rows."""

    def recorded(client: Any) -> None:
        insert(client, "decision", at=START, rows=wheel.decisions)
        insert(client, "outcome", at=START, rows=wheel.outcomes)
        charter = {"event_id": "charter", "project": "default", "feature": "answers", "occurred_at": START}
        insert(client, "charter", at=START, rows=[charter | {"revision": 1, "charter_yaml": CHARTER, "digest": ""}])

    with sql_endpoint(tmp_path_factory.mktemp("whatif") / "clickhouse", recorded) as address:
        yield address


def test_the_policy_that_logged_is_found_again_in_its_own_rows(wheel: Wheel, whatif: Any, tmp_path: Path) -> None:
    (tmp_path / "first.json").write_bytes(orjson.dumps(wheel.events[0], default=str))
    until = (START + timedelta(seconds=EVERY)).isoformat().replace("+00:00", "Z")
    answer = whatif("--policy", str(tmp_path / "first.json"), "--to", until, "--json")
    assert answer.exit_code == 0, answer.output
    whole = json.loads(answer.stdout)["whole"]
    assert whole["rows"] == EVERY and whole["mean_weight"] == pytest.approx(1.0, abs=1e-12)
    assert whole["largest_weight"] == pytest.approx(1.0, abs=1e-12), "every propensity is the one that was logged"
    logged = float(np.mean([each["reward"] for each in wheel.outcomes[:EVERY]]))
    ips = next(one for one in whole["estimates"] if one["estimator"] == "ips")
    assert ips["value"] == pytest.approx(logged, abs=1e-12)


def test_a_later_policys_value_on_the_whole_log_holds_against_the_truth(
    wheel: Wheel, whatif: Any, tmp_path: Path
) -> None:
    (tmp_path / "last.json").write_bytes(orjson.dumps(wheel.events[-1], default=str))
    answer = whatif(
        "--policy", str(tmp_path / "last.json"), "--level", ".999", "--to", "2026-11-20T00:33:20Z", "--json"
    )
    assert answer.exit_code == 0, answer.output
    whole = json.loads(answer.stdout)["whole"]
    truth = wheel.truth(compile_policy(wheel.events[-1]), wheel.contexts[: whole["rows"]])
    assert whole["rows"] == 2000 and whole["largest_weight"] > 1.5, "it decides otherwise than the log did"
    for one in whole["estimates"]:  # intervals of 99.9 %: one seed of a thousand would miss
        assert one["interval"][0] < truth < one["interval"][1], one


def test_a_contextual_charter_is_proven_better_than_uniform_would_be(wheel: Wheel, whatif: Any, tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text(CHARTER.replace("explore_floor: 0.1", "explore_floor: 0.02"))
    answer = whatif("--policy", str(tmp_path / "next.yaml"), "--level", ".999", "--json")
    assert answer.exit_code == 0, answer.output
    whole = json.loads(answer.stdout)["whole"]
    assert whole["rows"] == DECISIONS // 2, "the older half formed its beliefs"
    even = float(np.mean([(mean("cheap", c) + mean("strong", c)) / 2 for c in wheel.contexts[DECISIONS // 2 :]]))
    best = float(np.mean([max(mean("cheap", c), mean("strong", c)) for c in wheel.contexts[DECISIONS // 2 :]]))
    sndr = next(one for one in whole["estimates"] if one["estimator"] == "sndr")
    assert sndr["interval"][0] > even and sndr["interval"][0] < best
