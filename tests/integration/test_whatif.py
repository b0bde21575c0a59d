"""``flywheel whatif`` over the recorded decisions: a policy decides, rewards come back, the command asks the recorder's
SQL endpoint over the real views, and what it says of another policy holds against the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from flywheel.cli.main import cli
from flywheel.policy import DecideRequest, build_policy, compile_policy, decide, decision_event, parse_charter

from .conftest import insert, sql_endpoint

START = datetime(2026, 11, 20, tzinfo=UTC)
CHARTER = """
feature: answers
weights: {cost: 0.2}
quality: {judge: 1.0}
arms:
  - {name: cheap, model: a/cheap, share: 3}
  - {name: strong, model: a/strong, share: 1, eligible_when: {chars: {lt: 900}}}
policy: {kind: static}
context: [language, chars]
"""
MEANS = {"de": {"cheap": 0.2, "strong": 0.7}, "en": {"cheap": 0.6, "strong": 0.5}}
DECISIONS = 3000


def recorded(client: Any) -> None:
    """Decisions of the static policy, their rewards, and those that whatif must leave out."""
    rng = np.random.default_rng(20_261_121)
    charter = parse_charter(CHARTER)
    policy = compile_policy(
        build_policy(charter, charter_revision=1, charter_digest="", policy_version=1, occurred_at_us=0, summaries=[])
    )
    decisions, outcomes = [], []
    for number in range(DECISIONS):
        language, chars = ("de", "en")[int(rng.integers(2))], int(rng.integers(100, 850))
        request = DecideRequest("default", "answers", f"request-{number}", {"language": language, "chars": chars})
        at = START + timedelta(seconds=number)
        event = decision_event(decide(policy, request, 0), request, occurred_at_us=0) | {"occurred_at": at}
        decisions.append(event)
        quality = float(rng.random() < MEANS[language][event["arm"]])
        about = {"project": "default", "request_id": event["request_id"], "occurred_at": at, "feature": "answers"}
        outcome = {
            **about, "event_id": f"outcome-{number}", "decision_id": event["event_id"], "policy_version": 1,
            "arm": event["arm"], "propensity": event["propensity"], "fallback": False, "reward": quality - 0.1,
            "status": "complete", "revision": 1, "completed_at": at, "calls": 1, "errors": 0,
        }  # fmt: skip
        if number % 100 != 1:  # one in a hundred has no outcome yet
            outcomes.append(outcome | ({"reward": None} if number % 100 == 2 else {}))
        if number % 100 == 3:  # a newer revision wins
            outcomes.append(outcome | {"event_id": f"newer-{number}", "revision": 2})
            outcomes[-2]["reward"] = -0.2
    fallback = DecideRequest("default", "answers", "late", {}, default_arm="cheap")
    decisions.append(decision_event(decide(None, fallback, 0), fallback, occurred_at_us=0) | {"occurred_at": START})
    insert(client, "decision", at=START, rows=decisions)
    insert(client, "outcome", at=START, rows=outcomes)
    charter_row = {"event_id": "charter", "project": "default", "feature": "answers", "occurred_at": START}
    insert(client, "charter", at=START, rows=[charter_row | {"revision": 1, "charter_yaml": CHARTER, "digest": ""}])


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a recorder's SQL endpoint over the recorded rows."""
    with sql_endpoint(tmp_path_factory.mktemp("whatif") / "clickhouse", recorded) as address:
        yield address


def test_another_policys_value_from_the_recorded_decisions(whatif: Any, tmp_path: Path) -> None:
    answer = whatif("--arm", "strong", "--by", "language", "--level", ".999", "--json")
    assert answer.exit_code == 0, answer.output
    body = json.loads(answer.stdout)
    truth = (0.7 + 0.5) / 2 - 0.1  # intervals of 99.9 %: one seed of a thousand would miss
    for one in body["whole"]["estimates"]:
        assert one["interval"][0] < truth < one["interval"][1], one
    assert body["whole"]["value_sequence"][0] < truth < body["whole"]["value_sequence"][1]
    assert body["reward_range"] == [-0.2, 1.0]  # from the charter that was recorded
    assert body["left_out"] == {
        "decided by a default": 1, "without an outcome yet": 30, "with an outcome but no reward": 30,
    }  # fmt: skip
    assert body["whole"]["rows"] == DECISIONS - 60
    assert {part["value"]: part["better"] for part in body["slices"]} == {"de": True, "en": False}
    assert whatif("--arm", "strong", "--by", "language", "--level", ".999", "--json").stdout == answer.stdout

    by_language = CHARTER.replace("eligible_when: {chars: {lt: 900}}", "eligible_when: {language: de}").replace(
        "share: 3}", "share: 3, eligible_when: {language: en}}"
    )
    (tmp_path / "next.yaml").write_text(by_language, encoding="utf-8")
    best = whatif("--policy", str(tmp_path / "next.yaml"), "--require-better", "--level", ".999", "--json")
    assert best.exit_code == 0, best.output
    estimates = json.loads(best.stdout)["whole"]["estimates"]
    assert all(one["interval"][0] < (0.7 + 0.6) / 2 - 0.1 < one["interval"][1] for one in estimates)


def test_a_period_and_the_newest_are_chosen_by_event_time(whatif: Any) -> None:
    early = json.loads(whatif("--shares", "cheap=1,strong=1", "--to", "2026-11-20T00:20:00Z", "--json").stdout)
    assert early["whole"]["rows"] == 1200 - 24
    newest = json.loads(whatif("--shares", "cheap=1,strong=1", "--most", "500", "--json").stdout)
    assert newest["whole"]["rows"] == 500
    assert newest["left_out"]["older than the newest asked for"] == DECISIONS - 60 - 500
    nothing = whatif("--arm", "strong", "--from", "2027-01-01")
    assert nothing.exit_code == 1 and "no decision with a reward" in nothing.stderr
    hostile = CliRunner().invoke(cli, ["whatif", "x' OR '1'='1", "--arm", "strong"], prog_name="flywheel")
    assert hostile.exit_code == 1 and "no decision with a reward" in hostile.stderr
