"""Holds what a service said against what its core says of the ledger that lies on the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flywheel.events import Codec
from flywheel.stream import Event, Fold, FoldResult, ShardState, StateView
from flywheel.stream.shard import Identity, Shard
from flywheel.testkit.draining import read_partitions, read_topic

ByTopic = dict[str, dict[str, dict[str, Any]]]


async def said(bootstrap: str, topic: str, codec: Codec) -> dict[str, dict[str, Any]]:
    """Every event of a topic by its id, in order of partition and offset.

    Raises:
        AssertionError: two events with one id differ.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in await read_topic(bootstrap, topic):
        value = dict(codec.decode(record.value or b"").value)
        known = found.setdefault(value["event_id"], value)
        assert known == value, f"{topic}: two events with the id {value['event_id']} differ"
    return found


async def replayed(bootstrap: str, ledger: str, codec: Codec, make: Callable[[], Fold], service: str) -> ByTopic:
    """What a stage says of its ledger, read anew without a state: events by topic and id. ``make`` makes its fold."""
    expected: ByTopic = {}
    for partition, records in (await read_partitions(bootstrap, ledger)).items():
        state = ShardState(None)
        shard = Shard(number=partition.partition, state=state, codec=codec, identity=Identity(service, "again"))
        await shard.process(shard.sort({partition: records}), _Noting(make(), codec, expected))
        state.close()
    return expected


class _Noting:
    """A fold that notes its outputs as a reader would decode them."""

    def __init__(self, fold: Fold, codec: Codec, into: ByTopic) -> None:
        self._fold, self._codec, self._into = fold, codec, into

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        result = self._fold.fold(shard, events, state)
        for output in result.outputs:
            value = dict(self._codec.decode(self._codec.encode(output.event, output.value)).value)
            self._into.setdefault(output.topic, {})[value["event_id"]] = value
        return result
