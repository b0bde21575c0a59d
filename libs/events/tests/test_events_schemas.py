"""Governance: what is declared under ``schemas/`` keeps this project's rules."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from flywheel.events import topics
from flywheel.events.compatibility import PII_CLASSES, breaks, violations
from flywheel.events.declarations import SchemaVersion, read_topics, read_versions, schemas_dir, versions
from flywheel.events.errors import SchemaInvalid
from flywheel.events.examples import examples
from flywheel.events.generate import TARGET, render

SOURCES = {
    *("producers", "ingest", "router", "client", "bandit", "budget", "controller", "detector", "monitor", "recorder"),
    *("notifier", "cli"),
}
EVENTS = sorted({v.event for v in versions()})


@pytest.mark.parametrize("event", EVENTS)
def test_released_versions_read_each_other(event: str) -> None:
    assert breaks([v for v in versions() if v.event == event]) == []


@pytest.mark.parametrize("version", versions(), ids=lambda v: f"{v.event}-v{v.version}")
def test_a_schema_keeps_the_rules(version: SchemaVersion) -> None:
    assert violations(version.avsc) == []
    assert version.avsc["name"].lower() == version.event.replace("_", "")


def test_every_event_has_a_topic_and_an_example() -> None:
    assert {t.event for t in topics().values()} == set(EVENTS)
    assert all(examples(event) for event in EVENTS)


def test_examples_belong_to_released_versions() -> None:
    released = {(v.event, f"v{v.version}") for v in versions()}
    found = {(p.parent.parent.name, p.parent.name) for p in (schemas_dir() / "examples").glob("*/v*/*.json")}
    assert found == released


@pytest.mark.parametrize("name", sorted(topics()))
def test_a_topic_declares_everything(name: str) -> None:
    topic = topics()[name]
    assert topic.compatibility == "FULL_TRANSITIVE"
    assert topic.producers and set(topic.producers) <= SOURCES
    assert topic.consumers and set(topic.consumers) <= SOURCES
    assert topic.pii in PII_CLASSES
    assert topic.cleanup in ("delete", "compact")
    assert topic.retention_ms == -1 or topic.retention_ms >= 86_400_000
    if name.endswith(".dlq"):
        source = topics()[name.removesuffix(".dlq")]
        assert (topic.event, topic.pii, topic.partitions) == ("dead_letter", source.pii, source.partitions)
        assert source.dlq == name
    else:
        assert topic.dlq in topics()


def test_topics_that_are_joined_have_equal_partition_counts() -> None:
    joined = ["llm-decisions", "llm-calls", "llm-feedback", "llm-evaluations", "llm-content", "llm-outcomes"]
    assert len({topics()[t].partitions for t in joined}) == 1
    assert all(topics()[t].key == "request_id" for t in joined)


def test_the_generated_models_are_what_the_schemas_say() -> None:
    assert TARGET.read_text() == render(), "run `make schemas`"


def _next(version: SchemaVersion, change: Any) -> list[SchemaVersion]:
    avsc = deepcopy(version.avsc)
    change(avsc)
    return [version, SchemaVersion(version.event, version.version + 1, 9999, json.dumps(avsc))]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s["fields"].append({"name": "new", "type": "string"}), "without default"),
        (lambda s: s["fields"].pop(0), "without default"),
        (lambda s: s["fields"][0].update(type="bytes"), "is not bytes"),
        (lambda s: s.update(name="Renamed"), "renamed"),
        (
            lambda s: next(f for f in s["fields"] if f["name"] == "value").update(type=["null", "string"]),
            "in no branch",
        ),
        (lambda s: next(f for f in s["fields"] if f["name"] == "occurred_at").update(type="double"), "is not"),
        (
            lambda s: next(f for f in s["fields"] if f["name"] == "occurred_at")["type"].update(logicalType="x"),
            "logical",
        ),
    ],
)
def test_a_breaking_change_is_named(change: Any, why: str) -> None:
    feedback = next(v for v in versions() if v.event == "feedback")
    assert any(why in found for found in breaks(_next(feedback, change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["fields"].append({"name": "new", "type": ["null", "string"], "default": None}),
        lambda s: s["fields"].pop(next(i for i, f in enumerate(s["fields"]) if f["name"] == "comment")),
        lambda s: next(f for f in s["fields"] if f["name"] == "source")["type"]["symbols"].append("JUDGE"),
    ],
)
def test_a_compatible_change_passes(change: Any) -> None:
    feedback = next(v for v in versions() if v.event == "feedback")
    assert breaks(_next(feedback, change)) == []


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"name": "x", "type": "string", "doc": "d"}, "must declare pii"),
        ({"name": "x", "type": "long"}, "no doc"),
        ({"name": "x", "type": ["long", "null"], "doc": "d", "default": 0}, "starts with"),
        ({"name": "x", "type": {"type": "long", "logicalType": "time-micros"}, "doc": "d"}, "time-micros"),
        ({"name": "x", "type": {"type": "enum", "name": "E", "symbols": ["A"]}, "doc": "d"}, "default symbol"),
    ],
)
def test_a_schema_that_breaks_a_rule_is_named(field: dict[str, Any], why: str) -> None:
    found = violations({"type": "record", "name": "R", "doc": "d", "fields": [field]})
    assert len(found) == 1
    assert why in found[0]


def _declare(folder: Path, *, ids: dict[str, Any], avsc: str) -> Path:
    (folder / "events/thing").mkdir(parents=True)
    (folder / "topics").mkdir()
    (folder / "events/thing/v1.avsc").write_text(avsc)
    (folder / "ids.json").write_text(json.dumps(ids))
    return folder


def test_a_version_without_a_pinned_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaInvalid, match="has no id"):
        read_versions(_declare(tmp_path, ids={}, avsc="{}"))


def test_a_schema_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaInvalid, match="is not JSON"):
        read_versions(_declare(tmp_path, ids={"thing": {"1": 1}}, avsc="{"))


def test_a_topic_file_is_named_after_its_topic_and_complete(tmp_path: Path) -> None:
    folder = _declare(tmp_path, ids={}, avsc="{}")
    declared = yaml.safe_load((schemas_dir() / "topics/llm-calls.yaml").read_text())
    (folder / "topics/other.yaml").write_text(yaml.safe_dump(declared))
    with pytest.raises(SchemaInvalid, match="declares topic"):
        read_topics(folder)
    del declared["pii"]
    (folder / "topics/other.yaml").unlink()
    (folder / "topics/llm-calls.yaml").write_text(yaml.safe_dump(declared))
    with pytest.raises(SchemaInvalid, match="pii"):
        read_topics(folder)
