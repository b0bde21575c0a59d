"""Each record ends as one row or one verdict, whatever is retried, repeated or killed in between."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flywheel.events import topics
from flywheel.events.examples import examples
from flywheel.store import StoreUnavailable
from flywheel.stream import RawRecord
from flywheel_recorder.adapters import FileStaging
from flywheel_recorder.tables import Source, Tables
from flywheel_recorder.wiring import recorded_topics

from .conftest import NOW_US, Engine, Records

DAY_US = 86_400_000_000
PLACE = ("llm-calls", 0)


def calls(engine: Engine) -> int:
    """How many rows analysts see."""
    return int(engine.rows("SELECT count() FROM v_calls")[0][0])


def test_rows_arrive_with_their_positions(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    assert tables.positions([PLACE]) == {}
    assert tables.write([records.call(p) for p in (0, 1, 0)]) == {}
    rows = engine.rows("SELECT k_topic, k_partition, k_offset, k_batch_first FROM llm_calls ORDER BY 2, 3")
    assert rows == [("llm-calls", 0, 0, 0), ("llm-calls", 0, 1, 0), ("llm-calls", 1, 0, 0)]


def test_bad_rows_get_verdicts_that_name_the_field_and_their_neighbours_go_through(
    engine: Engine, records: Records
) -> None:
    tables = engine.empty()
    tables.positions([PLACE])
    batch = [
        records.call(),
        records.call(input_tokens=-1),
        records.call(latency_ms=math.nan),
        records.raw(b"not a frame"),
        records.raw(records.bytes_of()[:-3]),
        records.raw(None),
        records.call(occurred_at=NOW_US + 2 * DAY_US),
        records.raw(engine.codec.encode("decision", examples("decision")["linear-thompson"])),
        records.call(),
    ]
    refused = tables.write(batch)
    assert {i: (r.reason, r.field, r.outcome) for i, r in refused.items()} == {
        1: ("invalid", "input_tokens", "reject"),
        2: ("invalid", "latency_ms", "reject"),
        3: ("undecodable", None, "reject"),
        4: ("undecodable", None, "reject"),
        5: ("no_value", None, "reject"),
        6: ("invalid", "occurred_at", "reject"),
        7: ("wrong_event", None, "reject"),
    }
    assert calls(engine) == 2


def test_on_a_compacted_topic_a_deletion_is_skipped(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    deletion = RawRecord("policies", 0, 0, NOW_US // 1000, b"acme/answers", None)
    assert tables.write([deletion])[0].outcome == "skip"


def test_what_cannot_be_recorded_from_a_dead_letter_topic_is_skipped(engine: Engine) -> None:
    tables = engine.empty()
    assert tables.write([RawRecord("llm-calls.dlq", 0, 0, NOW_US // 1000, None, b"?")])[0].outcome == "skip"


def test_an_unknown_schema_holds_its_partition_and_no_other(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    unknown = b"\0\0\0\x27\x0f" + records.bytes_of()[5:]
    batch = [records.call(0), records.raw(unknown, 0), records.call(0), records.raw(b"?", 0), records.call(1)]
    assert {i: r.outcome for i, r in tables.write(batch).items()} == {1: "hold"}
    assert engine.rows("SELECT k_partition, k_offset FROM v_calls ORDER BY 1, 2") == [(0, 0), (1, 0)]
    assert {i: r.outcome for i, r in tables.write(batch[1:4]).items()} == {0: "hold"}
    assert calls(engine) == 2


def test_events_of_several_months_go_to_several_partitions_once(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    batch = [records.call(occurred_at=NOW_US - 40 * DAY_US * (i % 3)) for i in range(9)]
    assert tables.write(batch) == {}
    months = engine.rows("SELECT toYYYYMM(occurred_at) AS m, count() FROM v_calls GROUP BY m ORDER BY m")
    assert [count for _month, count in months] == [3, 3, 3]


def test_an_event_that_comes_again_is_counted_once_and_noted(engine: Engine, records: Records) -> None:
    """A client's retry is a second record with the same id; the first one stands, even where the second differs."""
    tables = engine.empty()
    tables.positions([PLACE])
    first = records.bytes_of(event_id="same", latency_ms=1.0)
    other = records.bytes_of(event_id="same", latency_ms=2.0)
    assert tables.write([records.raw(first), records.raw(first)]) == {}
    assert tables.write([records.call(), records.raw(other)]) == {}
    assert engine.rows("SELECT latency_ms, k_offset FROM v_calls WHERE event_id = 'same'") == [(1.0, 0)]
    noted = engine.rows("SELECT event_id, same_content, first_offset, k_offset FROM v_duplicates ORDER BY k_offset")
    assert noted == [("same", True, 0, 1), ("same", False, 0, 3)]
    assert engine.rows("SELECT sum(surplus_rows) FROM v_audit") == [(0,)]


def test_received_at_does_not_make_a_retry_different(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    for later in (0, 5):
        tables.write([records.call(event_id="r", received_at=NOW_US + later)])
    assert engine.rows("SELECT same_content FROM v_duplicates") == [(True,)]


def test_a_repeat_is_noticed_after_a_restart(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    tables.write([records.call(event_id="before")])
    restarted = engine.restarted()
    assert restarted.positions([PLACE]) == {PLACE: 0}
    assert restarted.write([records.call(event_id="before")]) == {}
    assert calls(engine) == 1


def test_when_the_first_of_an_id_is_refused_the_second_counts(engine: Engine, records: Records) -> None:
    tables = engine.empty()
    batch = [records.call(event_id="x", input_tokens=-1), records.call(event_id="x")]
    assert list(tables.write(batch)) == [0]
    assert engine.rows("SELECT k_offset FROM v_calls") == [(1,)]


def test_a_batch_given_again_changes_nothing(engine: Engine, records: Records) -> None:
    """The runner gives a batch again when it could not get rid of its dead letters."""
    tables = engine.empty()
    batch = [records.call(), records.call(input_tokens=-1), records.call()]
    assert list(tables.write(batch)) == [1]
    assert list(tables.write(batch)) == [1]
    assert tables.write([batch[0], batch[2]]) == {}
    assert tables.write([records.call()]) == {}
    assert calls(engine) == 3
    assert engine.rows("SELECT count() FROM v_duplicates") == [(0,)]


def test_every_topic_that_names_the_recorder_is_recorded(engine: Engine) -> None:
    declared = {t.name for t in topics().values() if "recorder" in t.consumers}
    assert set(recorded_topics()) == declared
    tables = engine.empty()
    for topic in sorted(declared):
        event = topics()[topic].event
        name, example = next(iter(examples(event).items()))
        value = {**example, "event_id": f"{topic}/{name}"}
        record = RawRecord(topic, 0, 0, NOW_US // 1000, b"k", engine.codec.encode(event, value))
        assert tables.write([record]) == {}, topic
    assert engine.rows("SELECT count() FROM v_dead_letters") == [(sum(t.endswith(".dlq") for t in declared),)]


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """A client whose process is killed, or whose server goes away, around its n-th statement."""

    def __init__(self, client: Any, after: int, *, done: bool, how: type[BaseException]) -> None:
        self._client, self._left, self._done, self._how = client, after, done, how

    def command(self, statement: str) -> Any:
        return self._around(lambda: self._client.command(statement))

    def query(self, statement: str) -> Any:
        return self._around(lambda: self._client.query(statement))

    def raw_query(self, statement: str) -> Any:
        return self._around(lambda: self._client.raw_query(statement))

    def _around(self, act: Any) -> Any:
        self._left -= 1
        if self._left != 0:
            return act()
        if self._done:
            act()
        raise self._how("killed")


def dying(engine: Engine, after: int, *, done: bool, how: type[BaseException]) -> Tables:
    """A recorder that dies around its ``after``-th statement; ``done``: the engine still does what it was told."""
    sources = [Source(t.name, t.event, t.compacted, t.dlq is not None) for t in topics().values()]
    known = [s for s in sources if s.topic in recorded_topics()]
    tables = Tables(engine.client, FileStaging(engine.folder / "dying"), engine.codec, known, remembered=64)
    broken = Dying(engine.client, after, done=done, how=how)
    tables.client = broken
    object.__setattr__(tables._inserter, "client", broken)
    return tables


def made_log(records: Records, kinds: Sequence[str]) -> list[RawRecord]:
    """A log of one partition: new calls, old ones, absurd ones, repeats of the last new call."""
    log: list[RawRecord] = []
    last = b""
    for kind in kinds:
        if kind == "repeat" and last:
            log.append(records.raw(last))
        elif kind == "bad":
            log.append(records.call(latency_ms=-1.0))
        else:
            last = records.bytes_of(occurred_at=NOW_US - (40 * DAY_US if kind == "old" else 0))
            log.append(records.raw(last))
    return log


def batches(log: Sequence[RawRecord], position: int, size: int) -> Iterator[list[RawRecord]]:
    for start in range(position, len(log), size):
        yield list(log[start : start + size])


@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
@given(
    kinds=st.lists(st.sampled_from(["new", "new", "old", "bad", "repeat"]), min_size=1, max_size=14),
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    deaths=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), max_size=3),
)
def test_whatever_dies_when_each_event_is_there_once_and_each_bad_one_was_told_of(
    engine: Engine,
    kinds: list[str],
    sizes: list[int],
    deaths: list[tuple[int, bool, bool]],
) -> None:
    """Kill the recorder, or lose its server, around any statement, before or after it took effect; begin again."""
    records = Records(engine.codec)
    log = made_log(records, kinds)
    engine.empty()
    told: set[int] = set()
    for (after, done, killed), size in zip([*deaths, (0, False, True)], sizes, strict=False):
        tables = dying(engine, after, done=done, how=Killed if killed else StoreUnavailable)
        try:
            position = tables.positions([PLACE]).get(PLACE, 0)
            for batch in batches(log, position, size):
                told |= {batch[i].offset for i in tables.write(batch)}
        except (Killed, StoreUnavailable):
            continue
    bad = {r.offset for r, kind in zip(log, kinds, strict=True) if kind == "bad"}
    unique = {r.value for r in log if r.offset not in bad}
    assert calls(engine) == len(unique)
    assert engine.rows("SELECT sum(surplus_rows) FROM v_audit") == [(0,)]
    assert told == bad
    repeats = len(log) - len(bad) - len(unique)
    assert engine.rows("SELECT count() FROM v_duplicates FINAL") == [(repeats,)]


@pytest.mark.parametrize("done", [False, True])
def test_when_the_store_goes_away_the_same_batch_goes_through_later(
    engine: Engine, records: Records, done: bool
) -> None:
    engine.empty()
    batch = [records.call(occurred_at=NOW_US - 40 * DAY_US * (i % 2)) for i in range(4)]
    for after in range(1, 6):
        tables = dying(engine, after, done=done, how=StoreUnavailable)
        try:
            tables.write(batch)
        except StoreUnavailable:
            assert tables.write(batch) == {}
        assert calls(engine) == 4
        engine.empty()
