"""``flywheel alerts`` and ``flywheel incident`` over the recorder's SQL endpoint: an arm begins to fail, is noticed, is
disabled, and comes back. The command tells who did what when, with figures that are those of the recorded calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli
from flywheel.control import Silence
from flywheel.events import Codec, LocalRegistry, event_id

from .conftest import insert, sql_endpoint

START = datetime(2024, 11, 20, 9, tzinfo=UTC)  # long over: what was never resolved is stale
BEGAN_S, ALERT_S, ACTED_S, VERIFIED_S, RESOLVED_S, RETURNED_S = 3600, 3690, 3700, 4000, 4100, 4700
HOSTILE = "<script>alert('x')</script> [/red] \x1b[31m\u202eevil & \"quoted\" </svg>"
CODEC = Codec(LocalRegistry.load())
TIMES = (
    "occurred_at", "window_start", "window_end", "applied_at", "verify_by", "expires_at", "starts_at", "ends_at"
)  # fmt: skip
SEEN = {"by": "ana", "note": "the provider knows"}
SCOPE = {"feature": "answers", "arm": "strong", "provider": "openai", "model": "gpt-4o"}


def us(seconds: float) -> int:
    return int((START + timedelta(seconds=seconds)).timestamp() * 1e6)


def alert(name: str, at_s: float, state: str, *, project: str = "acme", **more: Any) -> dict[str, Any]:
    value = {
        "event_id": event_id("report", name, state, us(at_s)), "alert_id": event_id("test", name), "project": project,
        "occurred_at": us(at_s), "kind": "error_rate", "severity": "warning", "state": state, "scope": SCOPE,
        "subject": "acme/answers", "title": "answers (strong): error_rate 0.5, usual 0.01", "value": 0.5,
    }  # fmt: skip
    return value | more


def action(name: str, at_s: float, state: str, **more: Any) -> dict[str, Any]:
    value = {
        "event_id": event_id("step", name, state), "action_id": event_id("action", name), "project": "acme",
        "feature": "answers", "occurred_at": us(at_s), "state": state, "kind": "disable", "arms": ["strong"],
        "rule": "errors", "rules_version": 1, "cause": [event_id("test", "errors")], "cause_kind": "error_rate",
        "scope": SCOPE, "value_before": 49.0, "reason": "error_rate 0.5 above 0.01",
    }  # fmt: skip
    return value | more


def written(client: Any, event: str, values: list[dict[str, Any]]) -> None:
    """Events through their schema into their table, times as times, as the recorder does."""
    rows = [CODEC.decode(CODEC.encode(event, value)).value for value in values]
    for row in rows:
        for name in (
            "occurred_at",
            "window_start",
            "window_end",
            "applied_at",
            "verify_by",
            "expires_at",
            "starts_at",
            "ends_at",
        ):
            if isinstance(row.get(name), int):
                row[name] = START + timedelta(microseconds=row[name] - us(0))
    insert(client, event, at=START, rows=rows)


def recorded(client: Any) -> None:
    """Two calls every ten seconds; from ``BEGAN_S`` on half of the strong arm's fail until it is disabled."""
    calls, outcomes = [], []
    for second in range(0, 7200, 10):
        for place in range(2):
            arm = "cheap" if place or ACTED_S <= second < RETURNED_S else "strong"
            bad = arm == "strong" and BEGAN_S <= second < RESOLVED_S and second % 20 == 0
            at, name = START + timedelta(seconds=second), f"{second}-{place}"
            about = {"project": "acme", "request_id": name, "occurred_at": at, "feature": "answers"}
            calls.append(
                about | {
                    "event_id": f"call-{name}", "provider": "openai", "request_model": "gpt-4o",
                    "response_model": "gpt-4o" if second < BEGAN_S else "gpt-4o-new",
                    "operation": "chat", "status": "ERROR" if bad else "OK", "variant": arm, "attempt": 1,
                    "cost_usd": Decimal("0.01") if arm == "strong" else Decimal("0.001"), "latency_ms": 800.0,
                    "shadow": False,
                }
            )  # fmt: skip
            outcomes.append(
                about | {
                    "event_id": f"outcome-{name}", "decision_id": f"decision-{name}", "policy_version": 1, "arm": arm,
                    "propensity": 0.5, "fallback": False, "reward": 0.0 if bad else 0.8, "quality": None,
                    "status": "complete", "revision": 1, "completed_at": at, "calls": 1, "errors": int(bad),
                }
            )  # fmt: skip
    calls.append(calls[-1] | {"event_id": "shadow", "shadow": True, "status": "ERROR", "cost_usd": Decimal(99)})
    insert(client, "llm_call", at=START, rows=calls)
    insert(client, "outcome", at=START, rows=outcomes)
    since = {"since": (START + timedelta(seconds=BEGAN_S)).strftime("%Y-%m-%dT%H:%M:%SZ"), "unit": ""}
    figures = since | {"observed": "0.5", "expected": "0.01", "exemplars": "request-1"}
    own = {"kind": "action_failed", "attributes": {"cause": event_id("test", "errors")}, "scope": {}}
    written(client, "alert", [
        alert("errors", ALERT_S, "firing", severity="critical", attributes=figures),
        alert("errors", ALERT_S + 200, "firing", attributes=figures),
        alert("errors", ALERT_S + 250, "acknowledged", attributes=figures | SEEN),
        alert("hostile", ALERT_S + 30, "firing", kind="quality", title=HOSTILE, detail=HOSTILE,
              scope=SCOPE | {"team": HOSTILE}, attributes={"observed": "much", "expected": HOSTILE, "since": HOSTILE}),
        alert("own", ALERT_S + 320, "firing", title="errors: disable did not help", **own),
        alert("hostile", RESOLVED_S - 20, "resolved", kind="quality", title=HOSTILE),
        alert("errors", RESOLVED_S, "resolved", severity="info", attributes={"resolved_because": "back at its level"}),
        alert("errors", 40_000, "firing"),  # again, much later: another incident
        alert("errors", 40_060, "acknowledged", attributes={"by": "bo"}),
        alert("day", 100, "firing", kind="budget_threshold", scope={"team": "cx"}, subject="acme/cx-day",
              window_start=us(0), window_end=us(50_000), severity="info", title="Budget cx-day: 50 % spent"),
        alert("errors", ALERT_S, "firing", project="other"),
        alert("model", 200, "firing", scope={"model": "gpt-4o", "provider": "openai"}, subject="acme", severity="info"),
        alert("model", 260, "resolved", scope={"model": "gpt-4o", "provider": "openai"}, subject="acme"),
    ])  # fmt: skip
    written(client, "action", [
        action("off", ACTED_S, "applied", applied_at=us(ACTED_S), verify_by=us(VERIFIED_S)),
        action("off", VERIFIED_S, "verified", value_after=0.5, reason="the deviation became smaller"),
        action("off", RETURNED_S, "returned", reason="its cause is over"),
        action("twice", ACTED_S + 1, "refused", kind="escalate", reason=HOSTILE, rule=""),
        action("hand", VERIFIED_S + 10, "applied", kind="override", by="ana", rule="", cause=[], reason="to be sure"),
        action("elsewhere", VERIFIED_S + 10, "applied", kind="override", feature="titles", rule="", cause=[]),
    ])  # fmt: skip
    charter = {"project": "acme", "revision": 2, "charter_yaml": "feature: x", "digest": "abcdef0123456789"}
    insert(client, "charter", at=START, rows=[
        charter | {"event_id": "near", "feature": "answers", "occurred_at": START + timedelta(seconds=BEGAN_S - 60)},
        charter | {"event_id": "long ago", "feature": "answers", "occurred_at": START - timedelta(days=1)},
        charter | {"event_id": "of another", "feature": "titles", "occurred_at": START + timedelta(seconds=BEGAN_S)},
    ])  # fmt: skip
    soon = START + timedelta(seconds=BEGAN_S - 30)
    rules = {
        "event_id": "rules",
        "project": "acme",
        "occurred_at": soon,
        "revision": 3,
        "rules_yaml": "",
        "digest": "d",
    }
    insert(client, "control_rules", at=START, rows=[rules])
    insert(client, "budget", at=START, rows=[{
        "event_id": "budget", "project": "acme", "budget": "cx-day", "occurred_at": soon, "revision": 7, "per": "day",
        "effective_from": soon, "ended": False, "amount_usd": Decimal(50), "time_zone": "UTC", "mode": "hard",
    }])  # fmt: skip
    insert(client, "reprice", at=START, rows=[{
        "event_id": f"reprice {number}", "project": "acme", "occurred_at": START, "call_id": f"call-{number}-0",
        "revision": 1, "repriced_at": soon, "cost_usd": Decimal(1), "cost_source": "LOCAL", "price_version": "v2",
    } for number in (0, 10)])  # fmt: skip
    insert(client, "control", at=START, rows=[
        {"event_id": owner, "project": "acme", "feature": "answers", "occurred_at": soon, "owner": owner, "by": owner,
         "revision": 1, "lifted": True, "reason": ""} for owner in ("person", "controller")
    ])  # fmt: skip
    silence = Silence("acme", "s", 1, us(BEGAN_S - 29), us(BEGAN_S), us(BEGAN_S + 60), "ana", "told before")
    lasting = replace(silence, project="other", ends_us=us(0) + 10**15, models=("openai/gpt-4o",))
    written(client, "silence", [silence.event(), lasting.event()])


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a recorder's SQL endpoint over the recorded rows."""
    with sql_endpoint(tmp_path_factory.mktemp("incident") / "clickhouse", recorded) as address:
        yield address


@pytest.fixture
def flywheel(clickhouse: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", clickhouse)
    return lambda *arguments: CliRunner().invoke(cli, arguments, prog_name="flywheel")


def as_json(answer: Result) -> Any:
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def the_incident(flywheel: Callable[..., Result]) -> dict[str, Any]:
    (found,) = [
        each for each in as_json(flywheel("incident", "list", "--project", "acme", "--json")) if each["actions"]
    ]
    assert isinstance(found, dict)
    return found


def test_what_fires_now_and_what_fired(flywheel: Callable[..., Result]) -> None:
    found = as_json(flywheel("alerts", "list", "--project", "acme", "--json"))
    assert [(each["kind"], each["state"], each["started_at"][11:19]) for each in found] == [
        ("action_failed", "firing", "10:06:50"),  # what it is about fires again
        ("error_rate", "acknowledged", "20:06:40"),  # of one that fired twice the newer time
        ("budget_threshold", "over", "09:01:40"),
        ("quality", "resolved", "10:02:00"),
        ("error_rate", "resolved", "09:03:20"),
    ]
    chosen = as_json(flywheel("alerts", "list", "--feature", "answers", "--state", "resolved", "--json"))
    assert [(each["kind"], each["title"], each["observed"]) for each in chosen] == [("quality", HOSTILE, 0.5)]
    assert as_json(flywheel("alerts", "list", "--since", "2024-11-20T20:00:00Z", "--json"))[0]["kind"] == "error_rate"
    assert as_json(flywheel("alerts", "list", "--feature", "x' OR '1'='1", "--json")) == []
    shown = flywheel("alerts", "list")
    assert shown.exit_code == 0 and "[/red]" in shown.stdout and "\x1b" not in shown.stdout
    assert flywheel("alerts", "list", "--since", "soon").exit_code == 2


def test_one_alert_with_what_people_said(flywheel: Callable[..., Result]) -> None:
    errors = event_id("test", "errors")
    found = as_json(flywheel("alerts", "show", errors[:12], "--project", "acme", "--json"))
    assert (found["state"], found["acknowledged_by"], found["silenced_by"]) == ("acknowledged", "bo", None)
    assert [(each["state"], each["by"], each["note"]) for each in found["told"]] == [
        ("firing", "", ""), ("firing", "", ""), ("acknowledged", "ana", "the provider knows"), ("resolved", "", ""),
        ("firing", "", ""), ("acknowledged", "bo", ""),
    ]  # fmt: skip
    several = flywheel("alerts", "show", errors)
    assert several.exit_code == 1 and "the beginning of 2 alerts" in several.stderr
    none = flywheel("alerts", "show", "x' OR '1'='1")
    assert none.exit_code == 1 and "no alert x' OR" in none.stderr
    shown = flywheel("alerts", "show", event_id("test", "hostile"))
    assert shown.exit_code == 0 and "[/red]" in shown.stdout and "\x1b" not in shown.stdout


def test_a_silence_that_holds_is_shown_at_what_fires_under_it(flywheel: Callable[..., Result]) -> None:
    (found,) = as_json(flywheel("alerts", "list", "--project", "other", "--json"))
    assert (found["state"], found["silenced_by"]) == ("firing", "s")
    assert "firing, silenced" in flywheel("alerts", "list", "--project", "other").stdout
    said = flywheel("alerts", "show", event_id("test", "errors"), "--project", "other").stdout
    assert "by ana: told before" in said


def test_only_what_fires_can_be_acknowledged(flywheel: Callable[..., Result]) -> None:
    for name, why in (("nothing", "no alert nothing"), (event_id("test", "hostile"), "nothing fires"), ("", "nothing")):
        answer = flywheel("alerts", "ack", name, "--kafka", "127.0.0.1:9")
        assert answer.exit_code == 1 and why in answer.stderr
    by_feature = flywheel("alerts", "resolve", "acme/answers", "--kafka", "127.0.0.1:9")
    assert by_feature.exit_code == 1 and "127.0.0.1:9" in by_feature.stderr  # found; nobody to tell


def test_alerts_of_a_common_cause_are_one_incident(flywheel: Callable[..., Result]) -> None:
    found = as_json(flywheel("incident", "list", "--json"))
    assert [(each["project"], each["kinds"], each["severity"], each["actions"]) for each in found] == [
        ("acme", ["error_rate"], "warning", 0),
        ("other", ["error_rate"], "warning", 0),
        ("acme", ["error_rate", "quality", "action_failed"], "critical", 2),
        ("acme", ["error_rate"], "warning", 0),
        ("acme", ["budget_threshold"], "info", 0),
    ]
    assert [each["state"] for each in found] == ["stale", "stale", "closed", "closed", "closed"]
    one = found[2]
    assert (one["state"], one["features"], one["ended_at"][11:19]) == ("closed", ["answers"], "10:08:20")
    assert as_json(flywheel("incident", "list", "--state", "closed", "--limit", "1", "--json")) == [one]
    assert as_json(flywheel("incident", "list", "--since", "2025-01-01", "--json")) == []
    assert one in as_json(flywheel("incident", "list", "--project", "acme", "--feature", "answers", "--json"))
    shown = flywheel("incident", "list")
    assert shown.exit_code == 0 and one["incident_id"][:12] in shown.stdout
    assert flywheel("incident", "list", "--gap", "a while").exit_code == 2


def test_the_review_tells_who_did_what_when_and_what_came_of_it(flywheel: Callable[..., Result]) -> None:
    incident = the_incident(flywheel)
    found = as_json(flywheel("incident", "show", incident["incident_id"][:10], "--around", "1h", "--json"))
    assert {name: found[name] for name in incident} == incident
    assert {name: each["after_s"] for name, each in found["milestones"].items()} == {
        "began": 0.0, "alerted": 90.0, "acted": 100.0, "effect": 400.0, "ended": 500.0,
    }  # fmt: skip
    phases = {each["phase"]: each for each in found["phases"]}
    assert [(name, each["calls"], each["errors"]) for name, each in phases.items()] == [
        ("before", 720, 0), ("unnoticed", 18, 5), ("noticed", 2, 0), ("acted on", 80, 0), ("after", 620, 0),
    ]  # fmt: skip
    assert phases["unnoticed"]["arms"]["strong"]["error_rate"] == 5 / 9
    assert phases["acted on"]["cost_usd"] == "0.08" and phases["before"]["cost_usd"] == "3.96"
    assert phases["unnoticed"]["mean_reward"] == pytest.approx(13 * 0.8 / 18)
    # At the rates of before these 100 calls would have had no error and cost 0.55 USD.
    assert found["impact"]["extra_errors"] == 5.0
    assert Decimal(found["impact"]["extra_cost_usd"]) == Decimal("0.099") + Decimal("0.011") + Decimal(
        "0.08"
    ) - Decimal("0.55")
    assert found["impact"]["lost_reward"] == pytest.approx(5 * 0.8)
    told = [(each["sort"], each["what"], each["who"]) for each in found["timeline"]]
    assert told == [
        ("change", "charter", ""), ("change", "budget", ""), ("change", "control", "person"), ("change", "prices", ""),
        ("change", "rules", ""), ("change", "silence", "ana"), ("fact", "began", ""), ("change", "new model", ""),
        ("change", "new model", ""),
        ("detection", "firing", "critical"), ("decision", "disable applied", "rule errors"),
        ("decision", "escalate refused", "controller"), ("detection", "firing", "warning"),
        ("detection", "firing", "warning"), ("decision", "acknowledged", "ana"),
        ("effect", "disable verified", "rule errors"), ("detection", "firing", "warning"),
        ("decision", "override applied", "ana"),
        ("detection", "resolved", "warning"), ("detection", "resolved", "info"),
        ("effect", "disable returned", "rule errors"),
    ]  # fmt: skip
    assert [each["at"] for each in found["timeline"]] == sorted(each["at"] for each in found["timeline"])
    assert {(each["kind"], each["helped"]) for each in found["deeds"]} == {("disable", True), ("escalate", None)}
    buckets = [each for each in found["buckets"] if each["arm"] is None]
    assert found["bucket_s"] == 60 and sum(each["calls"] for each in buckets) == 1_440
    by_action = flywheel("incident", "show", event_id("action", "off"), "--json", "--around", "1m")
    assert as_json(by_action)["phases"][0]["calls"] == 12


def test_an_incident_without_a_feature_is_told_by_what_its_alert_is_about(flywheel: Callable[..., Result]) -> None:
    model, budget = as_json(flywheel("incident", "list", "--json"))[-2:]
    found = as_json(flywheel("incident", "show", model["incident_id"], "--around", "3m", "--json"))
    assert [(each["phase"], each["calls"]) for each in found["phases"]] == [
        ("before", 36),
        ("noticed", 12),
        ("after", 36),
    ]
    found = as_json(flywheel("incident", "show", budget["incident_id"], "--json"))
    assert [each["calls"] for each in found["phases"]] == [0] * len(found["phases"])  # no call is of the team
    assert found["impact"] is None and found["title"] == "Budget cx-day: 50 % spent"


def test_what_cannot_be_shown_is_one_line(flywheel: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    none = flywheel("incident", "show", "x' OR '1'='1")
    assert none.exit_code == 1 and "neither an incident nor an alert" in none.stderr
    several = flywheel("incident", "show", "")
    assert several.exit_code == 1 and "give more of it" in several.stderr
    away = the_incident(flywheel)["incident_id"]
    no_place = flywheel("incident", "show", away, "--page", "/no/such/folder/page.html")
    assert no_place.exit_code == 1 and "no page" in no_place.stderr
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", "http://127.0.0.1:9")
    for command in (("alerts", "list"), ("incident", "list"), ("incident", "show", away)):
        answer = flywheel(*command)
        assert answer.exit_code == 1 and "127.0.0.1:9" in answer.stderr


class Page(HTMLParser):
    """Elements that were opened and not closed, attributes, and the text of a page."""

    VOID = frozenset({"meta", "br", "rect", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_no_text_of_others_becomes_part_of_it(
    flywheel: Callable[..., Result], tmp_path: Path
) -> None:
    incident, file = the_incident(flywheel), tmp_path / "page.html"
    shown = flywheel("incident", "show", incident["incident_id"], "--page", str(file))
    assert shown.exit_code == 0 and "verified" in shown.stdout and "\x1b" not in shown.stdout
    found = Page()
    found.feed(file.read_text(encoding="utf-8"))
    assert found.open == []
    assert {tag for tag, _ in found.seen}.isdisjoint({"script", "link", "img", "iframe", "a", "object"})
    names = {name for _, attributes in found.seen for name in attributes}
    assert not any(name.startswith("on") or name in ("href", "src", "style") for name in names)
    assert "<script>alert('x')</script>" in found.text  # as text
    assert "\x1b" not in found.text and "\u202e" not in found.text
    assert [tag for tag, _ in found.seen].count("svg") >= 4
    marks = [text for text in ("began", "alert", "action", "effect", "over") if f">{text}</text>" in file.read_text()]
    assert marks == ["began", "alert", "action", "effect", "over"]
