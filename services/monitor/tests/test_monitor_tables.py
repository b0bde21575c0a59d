"""What the tables hold, through Faust's own serializers and store, without a broker."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import faust
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_monitor.core.fold import Slot
from flywheel_monitor.core.series import Series
from flywheel_monitor.core.spans import GRAINS
from flywheel_monitor.tables import AppSettings, Tables, Tumbling, _key, make_app

from .conftest import NOW_US

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


@pytest.fixture
async def made(tmp_path: Path) -> tuple[Any, Tables]:
    app, tables = make_app(AppSettings("x-monitor", "127.0.0.1:1, 127.0.0.1:2", 4, tmp_path, 10, 1.0, 1))
    app.finalize()
    return app, tables


def changelog(app: Any, tables: Tables, slot: Slot, text: str | None) -> Event:
    """The event of a change, written and read as Faust does, key and value as bytes in between."""
    table = tables._windows[slot.grain.name].table
    (span,) = table.window.ranges(slot.start_us / 1_000_000)
    key, _ = table.changelog_topic.prepare_key((_key(slot), span), table.key_serializer)
    value = None if text is None else table.changelog_topic.prepare_value(text, table.value_serializer)[0]
    read = None if value is None else app.serializers.loads_value(None, value, serializer=table.value_serializer)
    return Event(app.serializers.loads_key(None, key, serializer=table.key_serializer), read, Message(0, value))


@pytest.mark.parametrize("grain", GRAINS, ids=lambda grain: grain.name)
async def test_a_window_comes_back_from_its_changelog(made, grain):
    app, tables = made
    slot = Slot(grain, 3, SERIES, grain.start_of(NOW_US))
    table = tables._windows[grain.name].table
    table.apply_changelog_batch([changelog(app, tables, slot, orjson.dumps(RECORD).decode())])
    assert tables.get(slot) == RECORD
    assert list(tables.slots()) == [slot]
    assert len(tables) == 1
    assert tables.get(slot._replace(partition=2)) is None
    table.apply_changelog_batch([changelog(app, tables, slot, None)])
    assert (tables.get(slot), len(tables)) == (None, 0)


async def test_changelogs_are_cleaned_and_kept_as_long_as_their_windows(made):
    _, tables = made
    for grain in GRAINS:
        topic = tables._windows[grain.name].table.changelog_topic
        assert topic.partitions == 4
        assert topic.config["cleanup.policy"] == "compact,delete"
        assert int(topic.config["retention.ms"]) * 1000 > grain.kept_us
        assert int(topic.config["segment.ms"]) < int(topic.config["retention.ms"])


async def test_the_app_is_made_without_what_faust_cannot_hold(made):
    app, tables = made
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
