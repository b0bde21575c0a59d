"""What the tables hold, through Faust's own serializers and store, without a broker: rebuilt from their changelogs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import faust
import pytest
from faust.types import TP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel_monitor.core.alerting import Standing
from flywheel_monitor.core.fold import Place, Slot, fold
from flywheel_monitor.core.readings import Reading, call_reading
from flywheel_monitor.core.series import Roster, Series
from flywheel_monitor.core.spans import DAY_US, GRAINS
from flywheel_monitor.tables import AppSettings, Tables, Tumbling, make_app

from .conftest import NOW_US, make_call

SERIES = Series('a "project"', "käse / 日本", "")
RECORD = {"c": {"calls": 3, "cost_pico": 10**18}, "l": {"62": 3}, "at": {"llm-calls": 7}}


class Message(NamedTuple):
    partition: int
    value: bytes | None


class Event(NamedTuple):
    """What Faust hands to a table as it reads its changelog."""

    key: Any
    value: Any
    message: Message


class Log:
    """Where the tables' changelogs go in place of a broker: bytes, in order, by topic."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.topics: dict[str, list[tuple[bytes, bytes | None]]] = {}

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, 0)

    def send_soon(self, future: Any) -> None:
        sent = future.message
        self.topics.setdefault(sent.channel.get_topic_name(), []).append((sent.key, sent.value))

    def recover(self, app: Any) -> None:
        """Give an app's tables what they would read at a start."""
        for table in app.tables.values():
            entries = self.topics.get(table.changelog_topic.get_topic_name(), [])
            table.apply_changelog_batch([self._event(table, key, value) for key, value in entries])

    def _event(self, table: Any, key: bytes, value: bytes | None) -> Event:
        read = self._app.serializers
        found = None if value is None else read.loads_value(None, value, serializer=table.value_serializer)
        return Event(read.loads_key(None, key, serializer=table.key_serializer), found, Message(0, value))


def new(folder: Path) -> tuple[Any, Tables, Log]:
    app, tables = make_app(AppSettings("x-monitor", "127.0.0.1:1, 127.0.0.1:2", 4, folder, 10, 1.0, 1))
    app.finalize()
    log = Log(app)
    app.producer = log
    return app, tables, log


@pytest.fixture
async def made(tmp_path: Path) -> tuple[Any, Tables, Log]:
    return new(tmp_path)


@pytest.mark.parametrize("grain", GRAINS, ids=lambda grain: grain.name)
async def test_a_window_is_kept_and_deleted(made, grain):
    _, tables, _ = made
    slot = Slot(grain, 3, SERIES, grain.start_of(NOW_US))
    tables.put(slot, RECORD)
    assert (tables.get(slot), list(tables.slots()), len(tables)) == (RECORD, [slot], 1)
    assert tables.get(slot._replace(partition=2)) is None
    assert tables.sweep(NOW_US) == {SERIES}
    assert tables.sweep(slot.start_us + grain.kept_us) == set()
    assert (tables.get(slot), len(tables)) == (None, 0)


FACTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100 * DAY_US), st.sampled_from("ab")), max_size=12)


@given(before=FACTS, later_us=st.integers(0, 4 * DAY_US), after=FACTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_rebuilt_from_the_changelogs_is_what_was_there(tmp_path, before, later_us, after):
    async def law() -> None:
        _, tables, log = new(tmp_path)
        roster, now_us, offsets = Roster(), NOW_US, count()
        for facts in (before, after):
            readings = []
            for ago_us, (partition, _, arm) in zip(sorted(fact[1] for fact in facts), facts, strict=True):
                reading = call_reading(make_call(occurred_at=now_us - ago_us, variant=arm), now_us, {})
                assert isinstance(reading, Reading)
                readings.append((Place("llm-calls", partition, next(offsets)), reading))
            fold(readings, roster, tables, now_us)
            now_us += later_us
            tables.sweep(now_us)
        firing = Standing(True, now_us, now_us, said={"alert_id": "a"})
        tables.stand("kept", firing)
        tables.stand("gone", firing)
        tables.stand("gone", None)
        again_app, again, _ = new(tmp_path)
        log.recover(again_app)
        assert {slot: again.get(slot) for slot in again.slots()} == {slot: tables.get(slot) for slot in tables.slots()}
        assert again.standings() == tables.standings() == {"kept": firing}

    asyncio.run(law())


async def test_changelogs_are_cleaned_and_kept_as_long_as_their_windows(made):
    _, tables, _ = made
    for grain in GRAINS:
        topic = tables._windows[grain.name].table.changelog_topic
        assert topic.partitions == 4
        assert topic.config["cleanup.policy"] == "compact,delete"
        assert int(topic.config["retention.ms"]) * 1000 > grain.kept_us
        assert int(topic.config["segment.ms"]) < int(topic.config["retention.ms"])


async def test_the_app_is_made_without_what_faust_cannot_hold(made):
    app, tables, _ = made
    assert (app.conf.processing_guarantee.value, app.conf.web_enabled) == ("at_least_once", False)
    assert [str(url) for url in app.conf.broker] == ["kafka://127.0.0.1:1", "kafka://127.0.0.1:2"]
    for grain in GRAINS:
        table = tables._windows[grain.name].table
        assert (table.window.expires, table.use_partitioner, table.value_serializer) == (None, True, "json")
        assert not table._should_expire_keys()  # else it would note every write for ever


@given(st.integers(1, 4 * 10**9), st.sampled_from([60.0, 300.0, 3600.0, 86400.0]))
def test_our_windows_are_those_of_faust(timestamp, size):
    (theirs,) = faust.TumblingWindow(size).ranges(timestamp)
    ours = Tumbling(size)
    assert ours.ranges(timestamp) == [ours.current(timestamp)] == [ours.earliest(timestamp)] == [theirs]
    assert ours.delta(timestamp + size, timedelta(seconds=size)) == ours.current(timestamp)
    assert not ours.stale(0.0, timestamp)
