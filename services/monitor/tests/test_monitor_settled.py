"""No fact is read before the tables are recovered: the partitions of streams wait for the end of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from flywheel_monitor.tables import AppSettings, make_app

FACTS = TP("llm-calls", 0)


@pytest.fixture
async def consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    app, _ = make_app(AppSettings("app", "localhost:1", 4, tmp_path, 100, 1.0, 1))
    made = app.consumer

    async def committed() -> dict[TP, int]:
        assert FACTS not in made._get_active_partitions(), "it would be read while the position moves"
        return {FACTS: 7}

    monkeypatch.setattr(made, "seek_to_committed", committed)
    return made


def changelog(consumer: Any) -> TP:
    return TP(sorted(consumer.app.tables.changelog_topics)[0], 0)


async def test_streams_are_read_when_the_position_is_in_place_and_changelogs_at_once(consumer: Any) -> None:
    tables = changelog(consumer)
    consumer.resume_partitions({tables})
    consumer.resume_flow()
    assert consumer._get_active_partitions() == {tables}

    consumer.resume_partitions({FACTS})
    await consumer.perform_seek()
    assert FACTS not in consumer._get_active_partitions()  # what the queues hold is still to be thrown away
    consumer.resume_flow()
    assert consumer._get_active_partitions() == {tables, FACTS}


async def test_a_rebalance_in_between_begins_anew(consumer: Any) -> None:
    consumer.resume_partitions({FACTS})
    await consumer.perform_seek()
    consumer.pause_partitions({FACTS})
    consumer.resume_flow()
    assert FACTS not in consumer._get_active_partitions()

    consumer.resume_partitions({FACTS})
    await consumer.perform_seek()
    consumer.resume_flow()
    assert FACTS in consumer._get_active_partitions()


async def test_the_flow_alone_reads_nothing(consumer: Any) -> None:
    consumer.resume_partitions({FACTS})
    consumer.resume_flow()
    assert FACTS not in consumer._get_active_partitions()


async def test_what_is_fetched_does_not_change_while_kafka_is_waited_for(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = changelog(consumer)
    consumer.resume_partitions({tables})
    fetched = []

    async def fetch(wanted: Any, timeout: float) -> dict[TP, Any]:
        consumer.pause_partitions({tables})  # as at the end of a recovery; an empty set would fetch everything
        fetched.append(set(wanted))
        return {}

    monkeypatch.setattr(consumer._thread, "getmany", fetch)
    assert [message async for message in consumer.getmany(1.0)] == []
    assert fetched == [{tables}]
