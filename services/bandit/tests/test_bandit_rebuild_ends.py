"""Where a rebuild stops taking facts from ClickHouse: refused where the recorder has not got that far yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from flywheel.stream import TopicPartition
from flywheel_bandit.core import INPUTS
from flywheel_bandit.rebuild import CannotRebuild, _ends
from flywheel_bandit.settings import BanditSettings

CALLS, DECISIONS = TopicPartition("llm-calls", 0), TopicPartition("llm-decisions", 0)


@dataclass
class Log:
    """A log of one partition per topic on which record n came at second n."""

    begins: dict[TopicPartition, int] = field(default_factory=lambda: {TopicPartition(topic, 0): 0 for topic in INPUTS})
    end: int = 100

    async def at(
        self, bootstrap: str, partitions: Sequence[TopicPartition], moment_ms: int
    ) -> dict[TopicPartition, int]:
        return {tp: min(self.end, max(self.begins[tp], -(-moment_ms // 1000))) for tp in partitions}


@dataclass
class Store:
    known: Mapping[TopicPartition, int]

    def newest(self) -> Mapping[TopicPartition, int]:
        return self.known

    def arrived_before(self, tp: TopicPartition, offset: int) -> int:
        return (min(offset, self.known[tp]) - 1) * 1000


async def ends(log: Log, known: Mapping[TopicPartition, int], *, accept_loss: bool = False) -> Any:
    settings = BanditSettings(state_dir=Path("unused"), kafka_bootstrap="unused")
    return await _ends(settings, cast(Any, Store(known)), cast(Any, log), accept_loss)


async def test_all_topics_of_a_shard_are_taken_to_the_same_moment() -> None:
    log = Log()
    log.begins[CALLS] = 40
    found = await ends(log, {tp: 90 for tp in log.begins})
    assert found == {tp: 40 for tp in log.begins}


async def test_a_recorder_that_is_behind_on_a_topic_is_waited_for() -> None:
    log = Log()
    log.begins[CALLS] = 40
    with pytest.raises(CannotRebuild, match="llm-decisions/0: ClickHouse ends at 25 of 40: let the recorder catch up"):
        await ends(log, {tp: 90 for tp in log.begins} | {DECISIONS: 25})


async def test_records_that_are_nowhere_are_a_loss_to_accept() -> None:
    log = Log()
    log.begins[CALLS] = 40
    known = {tp: 90 for tp in log.begins} | {CALLS: 30}
    with pytest.raises(CannotRebuild, match="llm-calls/0: Kafka begins at 40, ClickHouse ends at 30"):
        await ends(log, known)
    assert (await ends(log, known, accept_loss=True))[CALLS] == 40


async def test_a_log_that_is_whole_needs_nothing() -> None:
    assert await ends(Log(), {tp: 90 for tp in Log().begins}) == {}
