"""A charter that must be proven better before it goes live: a real broker has the charters, a real store the decisions
that the running one made, and ``flywheel charter apply`` refuses, or publishes and says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flywheel.cli.going_live import judge
from flywheel.cli.main import cli
from flywheel.cli.questions import Rows, ask
from flywheel.events import topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics_now
from flywheel.policy import DecideRequest, build_policy, compile_policy, decide, decision_event, parse_charter

from .conftest import insert, sql_endpoint

pytest_plugins = ["flywheel.local.fixtures"]

START = datetime(2026, 11, 20, tzinfo=UTC)
DECISIONS = 2800
MEANS = {"cheap": 0.4, "strong": 0.8}
FEATURE = "answers-going-live"
RUNNING = f"""
feature: {FEATURE}
quality: {{judge: 1.0}}
reward: {{min: 0, max: 1}}
arms:
  - {{name: cheap, model: a/cheap, share: 3}}
  - {{name: strong, model: a/strong, share: 1}}
policy: {{kind: static, go_live: better}}
"""
BETTER = RUNNING.replace("share: 1", "share: 6")
WORSE = RUNNING.replace("share: 3", "share: 9")
NEW_ARM = RUNNING.replace("policy:", "  - {name: new, model: a/new, share: 1}\npolicy:")
EARLIER = RUNNING.replace("share: 3", "share: 2")


def recorded(client: Any) -> None:
    """Two revisions: before half of the decisions another one ran."""
    rng = np.random.default_rng(7)
    decisions, outcomes = [], []
    for number in range(DECISIONS):
        charter = parse_charter(EARLIER if number < DECISIONS // 2 else RUNNING)
        policy = compile_policy(
            build_policy(
                charter, charter_revision=1, charter_digest="", policy_version=1, occurred_at_us=0, summaries=[]
            )
        )
        at = START + timedelta(seconds=number)
        request = DecideRequest("default", FEATURE, f"request-{number}")
        event = decision_event(decide(policy, request, 0), request, occurred_at_us=0) | {"occurred_at": at}
        decisions.append(event)
        outcomes.append({
            "project": "default", "request_id": event["request_id"], "occurred_at": at, "feature": FEATURE,
            "event_id": f"outcome-{number}", "decision_id": event["event_id"], "policy_version": 1,
            "arm": event["arm"], "propensity": event["propensity"], "fallback": False,
            "reward": float(rng.random() < MEANS[event["arm"]]), "status": "complete", "revision": 1,
            "completed_at": at, "calls": 1, "errors": 0,
        })  # fmt: skip
    insert(client, "decision", at=START, rows=decisions)
    insert(client, "outcome", at=START, rows=outcomes)
    changed = START + timedelta(seconds=DECISIONS // 2)
    texts = [(1, START, EARLIER), (2, changed, RUNNING), (3, START + timedelta(seconds=DECISIONS), RUNNING + "\n")]
    charters = [
        {"event_id": f"charter-{revision}", "project": "default", "feature": FEATURE, "occurred_at": at,
         "revision": revision, "charter_yaml": text, "digest": ""}
        for revision, at, text in texts
    ]  # fmt: skip
    insert(client, "charter", at=START, rows=charters)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a recorder's SQL endpoint over the recorded rows."""
    with sql_endpoint(tmp_path_factory.mktemp("going-live") / "clickhouse", recorded) as address:
        yield address


def test_the_log_that_judges_is_that_of_the_revisions_that_chose_alike(clickhouse: str) -> None:
    def answered(query: str) -> Rows:
        return ask(clickhouse, query)

    # Revision 3 has only begun to run; revision 2 chose as it does, revision 1 did not.
    event = {"revision": 3, "occurred_at": int((START + timedelta(seconds=DECISIONS)).timestamp() * 1e6)}
    running = parse_charter(RUNNING)
    better = judge(event, running, parse_charter(BETTER), answered)
    assert better.refused is None and better.found is not None
    assert better.found.found.diagnosis.rows == DECISIONS // 2
    learning = judge(event, running, parse_charter(BETTER.replace("kind: static", "kind: thompson")), answered)
    assert learning.refused is None and learning.found is not None
    assert learning.found.found.diagnosis.rows == DECISIONS // 4  # the first half formed its beliefs
    otherwise = BETTER.replace("reward: {min: 0, max: 1}", "weights: {cost: 1}")
    assert "rewards otherwise" in str(judge(event, running, parse_charter(otherwise), answered).refused)
    nothing = judge({**event, "revision": 0}, running, parse_charter(BETTER), answered)
    assert "no decision with a reward" in str(nothing.refused)


@pytest.fixture
def apply(clickhouse: str, kafka: KafkaNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``flywheel charter apply`` of a text, with more arguments."""
    create_topics_now(kafka.bootstrap, topics().values())
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", clickhouse)

    def applied(text: str, *arguments: str) -> Result:
        file = tmp_path / "next.yaml"
        file.write_text(text, encoding="utf-8")
        return CliRunner().invoke(
            cli, ["charter", "apply", str(file), "--kafka", kafka.bootstrap, *arguments], prog_name="flywheel"
        )

    return applied


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_only_what_is_proven_better_goes_live_unless_a_person_forces_it(
    apply: Callable[..., Result], kafka: KafkaNode
) -> None:
    for text in (EARLIER, RUNNING):  # the first charter passes, and the running one is declared by hand
        first = apply(text, "--json", "--force", "--reason", "set-up") if text == RUNNING else apply(text, "--json")
        assert first.exit_code == 0, first.output
    worse = apply(WORSE)
    assert worse.exit_code == 1
    assert "is not published: not proven better" in worse.stderr and "snips" in worse.stdout
    new = apply(NEW_ARM, "--json")
    assert new.exit_code == 1 and "no support" in json.loads(new.stdout)["refused"]
    better = json.loads(apply(BETTER, "--json").stdout)
    assert (better["revision"], better["whole"]["better"]) == (3, True)
    same = json.loads(apply(BETTER + "attribution_window: 60s\n", "--json").stdout)
    assert same["revision"] == 4 and "whole" not in same
    assert apply(WORSE, "--force").exit_code == 2
    forced = apply(WORSE, "--force", "--reason", "the strong model ends tomorrow", "--by", "dana")
    assert forced.exit_code == 0, forced.output
    lines = CliRunner().invoke(cli, ["tail", "charters", "--from-beginning", "--kafka", kafka.bootstrap]).stdout
    values = [json.loads(line)["value"] for line in lines.splitlines() if FEATURE in line]
    said = {value["revision"]: (value["by"], value["forced"]) for value in values}
    assert said[5] == ("dana", "the strong model ends tomorrow") and said[3][1] == said[4][1] == ""
