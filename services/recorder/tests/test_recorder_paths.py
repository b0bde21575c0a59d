"""The fast way into a table gives the same rows and verdicts as the plain one, for examples and for made-up events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.events import topics
from flywheel.events.examples import examples
from flywheel.store import TABLES, StoreUnavailable, table_columns
from flywheel_recorder.adapters import FileStaging, Inserter, TableStaging, Target
from flywheel_recorder.core import Refused, Row
from flywheel_recorder.plain import PlainInserter
from flywheel_recorder.rules import LEAD_US
from flywheel_recorder.shapes import Shape, shape_of

from .conftest import NOW_US, Engine

TOPICS = {event: next(t.name for t in topics().values() if t.event == event) for event in TABLES}


def shape(engine: Engine, event: str) -> Shape:
    codec = engine.codec
    columns = table_columns(engine.client)[TABLES[event]]
    return shape_of(event, codec.schema(event), codec.schema_id(event), TABLES[event], columns)


def rows_of(engine: Engine, event: str, values: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [Row(i, 2, 10 + i, NOW_US // 1000, engine.codec.encode(event, v)) for i, v in enumerate(values)]


def both_ways(engine: Engine, event: str, rows: Sequence[Row]) -> tuple[Any, Any]:
    """What is in the table, and the verdicts, after the fast way and after the plain one."""
    target = Target(TOPICS[event], shape(engine, event), {2: 10})
    fast = Inserter(engine.client, FileStaging(engine.folder / "staging-paths"), engine.codec)
    plain = PlainInserter(engine.client, engine.codec)
    results = []
    for way in (lambda: fast.insert(target, rows), lambda: plain.insert(target.topic, target.shape, rows, {2: 10})):
        engine.client.command(f"TRUNCATE TABLE {target.shape.table}")
        verdicts = way()
        names = ", ".join(("k_topic", "k_partition", "k_offset", "k_timestamp", "k_batch_first", *target.shape.columns))
        table = engine.rows(f"SELECT {names} FROM {target.shape.table} ORDER BY k_offset")
        results.append((repr(table), {i: (r.reason, r.field) for i, r in verdicts.items()}))
    return results[0], results[1]


@pytest.mark.parametrize("event", sorted(TABLES))
def test_examples_arrive_as_they_were_sent(engine: Engine, event: str) -> None:
    values = list(examples(event).values())
    fast, plain = both_ways(engine, event, rows_of(engine, event, values))
    assert fast == plain
    fields = [f["name"] for f in engine.codec.schema(event)["fields"]]
    stored = engine.rows(f"SELECT {', '.join(fields)} FROM {TABLES[event]} ORDER BY k_offset")
    for value, row in zip(values, stored, strict=True):
        full = engine.codec.decode(engine.codec.encode(event, value)).value
        assert {f: _as_sent(v) for f, v in zip(fields, row, strict=True)} == {f: _text(full[f]) for f in fields}


def _as_sent(value: Any) -> Any:
    """A stored value in the codec's terms: instants as microseconds."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1_000_000 + moment.microsecond
    if isinstance(value, dict):
        return {k: _as_sent(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_sent(v) for v in value]
    return value


def _text(value: Any) -> Any:
    """A sent value as the store keeps it: ClickHouse has one type for text and bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()  # what clickhouse-connect shows for bytes that are not text
    if isinstance(value, dict):
        return {k: _text(v) for k, v in value.items()}
    return value


def made(avro: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Values of an Avro type, sensible or not."""
    if isinstance(avro, list):
        return st.none() | made(next(t for t in avro if t != "null"), name)
    if isinstance(avro, dict):
        if avro.get("logicalType") == "timestamp-micros":
            near = st.integers(NOW_US - 10**12, NOW_US + LEAD_US)
            return near | st.sampled_from([0, NOW_US + LEAD_US + 1, 10**15])
        if avro.get("logicalType") == "decimal":
            scale, most = avro["scale"], 10 ** avro["precision"] - 1
            exact = st.integers(-(10**3), most).map(lambda n: Decimal(n).scaleb(-scale))
            return st.sampled_from([Decimal(0), Decimal(1).scaleb(-scale)]) | exact
        if avro["type"] == "enum":
            return st.sampled_from(avro["symbols"])
        if avro["type"] == "map":
            return st.dictionaries(st.text(max_size=5), made(avro["values"]), max_size=3)
        if avro["type"] == "array":
            return st.lists(made(avro["items"], name), max_size=3)
        if avro["type"] == "record":
            return st.fixed_dictionaries({f["name"]: made(f["type"]) for f in avro["fields"]})
    return {
        "string": st.text(max_size=20),
        "long": st.integers(-3, 2**62),
        "int": st.integers(-3, 2**31 - 1),
        "double": st.floats(0, 1) | st.floats(),
        "boolean": st.booleans(),
        "bytes": st.binary(max_size=20),
    }[avro]


@pytest.mark.parametrize("event", ["llm_call", "decision", "evaluation", "outcome", "feedback"])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_made_up_events_end_the_same_both_ways(engine: Engine, event: str, data: st.DataObject) -> None:
    fields = {f["name"]: made(f["type"], f["name"]) for f in engine.codec.schema(event)["fields"]}
    fields |= {"event_id": st.uuids().map(str), "occurred_at": st.integers(NOW_US - 10**6, NOW_US)}
    values = data.draw(st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=12))
    fast, plain = both_ways(engine, event, rows_of(engine, event, values))
    assert fast[1] == plain[1]
    assert fast[0] == plain[0]


def test_bytes_that_are_not_what_the_schema_says(engine: Engine) -> None:
    """Truncated, longer, ended early, text that is not UTF-8: the engine and Python refuse the same rows."""
    good = engine.codec.encode("feedback", examples("feedback")["thumb-up"])
    at = good.index(b"thumb")
    broken = [good[:-1], good + b"x", good[:9], good[:at] + b"\xff" + good[at + 1 :], good[:5] + b"\xff" * 30]
    others = [
        engine.codec.encode("feedback", {**examples("feedback")["thumb-up"], "event_id": f"neighbour-{i}"})
        for i in range(3)
    ]
    framed = [others[0], *broken[:2], others[1], *broken[2:], others[2]]
    rows = [Row(i, 2, 10 + i, NOW_US // 1000, f) for i, f in enumerate(framed)]
    fast, plain = both_ways(engine, "feedback", rows)
    assert fast == plain
    assert sorted(fast[1]) == [1, 2, 4, 5, 6]
    assert {reason for reason, _field in fast[1].values()} == {"undecodable"}


def test_a_server_is_written_to_through_a_table_of_its_own(engine: Engine) -> None:
    """The way for a server, which can't see our files, run here on the embedded engine."""
    target = Target("llm-calls", shape(engine, "llm_call"), {2: 10})
    rows = rows_of(engine, "llm_call", list(examples("llm_call").values()))
    engine.client.command("TRUNCATE TABLE llm_calls")
    assert Inserter(engine.client, TableStaging(engine.client), engine.codec).insert(target, rows) == {}
    assert engine.rows("SELECT count() FROM llm_calls") == [(len(rows),)]
    assert engine.rows("SELECT count() FROM system.tables WHERE name LIKE 'staging%'") == [(0,)]


def test_a_row_that_spoils_the_insert_is_found_by_halving(engine: Engine) -> None:
    """Something no rule foresaw: here a constraint on the table, put there behind the recorder's back."""
    target = Target("charters", shape(engine, "charter"), {2: 10})
    example = examples("charter")["forced"]
    values = [{**example, "event_id": f"c{i}", "revision": i} for i in range(9)]
    engine.client.command("TRUNCATE TABLE charters")
    engine.client.command("ALTER TABLE charters ADD CONSTRAINT odd CHECK revision != 5")
    try:
        inserter = Inserter(engine.client, FileStaging(engine.folder / "staging-odd"), engine.codec)
        refused = inserter.insert(target, rows_of(engine, "charter", values))
    finally:
        engine.client.command("ALTER TABLE charters DROP CONSTRAINT odd")
    assert list(refused) == [5]
    assert refused[5].reason == "store_refused"
    assert engine.rows("SELECT groupArray(revision) FROM (SELECT revision FROM charters ORDER BY revision)") == [
        ([0, 1, 2, 3, 4, 6, 7, 8],)
    ]


def test_a_disk_that_is_nearly_full_takes_no_rows_and_no_row_is_blamed(engine: Engine) -> None:
    """The engine itself reports an insert as done whose files were cut short by a disk that filled up meanwhile."""
    target = Target("charters", shape(engine, "charter"), {2: 10})
    rows = rows_of(engine, "charter", [examples("charter")["forced"]])
    engine.client.command("TRUNCATE TABLE charters")
    inserter = Inserter(engine.client, FileStaging(engine.folder / "staging-full"), engine.codec)
    engine.client.command(f"SET min_free_disk_bytes_to_perform_insert = {1 << 60}")
    try:
        with pytest.raises(StoreUnavailable, match="free"):
            inserter.insert(target, rows)
    finally:
        engine.client.command("SET min_free_disk_bytes_to_perform_insert = 0")
    assert engine.rows("SELECT count() FROM charters") == [(0,)]
    assert inserter.insert(target, rows) == {}


def test_a_block_that_cannot_be_staged_waits(engine: Engine, tmp_path: Path) -> None:
    target = Target("charters", shape(engine, "charter"), {2: 10})
    staging = FileStaging(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreUnavailable, match="gone"):
        Inserter(engine.client, staging, engine.codec).insert(
            target, rows_of(engine, "charter", [examples("charter")["forced"]])
        )


def test_a_process_that_died_leaves_no_staged_files(tmp_path: Path) -> None:
    (tmp_path / "1-0.avro").write_bytes(b"x")
    FileStaging(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_says_what_was_wrong() -> None:
    assert Refused("invalid", "cost_usd", "below zero").field == "cost_usd"
