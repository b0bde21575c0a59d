"""The consumer of the Faust app, which reads no fact before the tables are recovered.

Faust 0.15.3 loses facts at the end of a recovery, in two ways. What is read then and cannot be counted is gone: the
position has moved past it; and where it is read again, a later record of its partition was counted, by which it is
taken for counted too.

- It resumes the partitions of the streams, then moves them to the committed offsets, then lets the streams go on, which
  empties their queues. Here the partitions stay paused until all of that is done.
- It hands aiokafka the set of partitions to read, and takes the changelogs out of that same set while aiokafka waits.
  An empty set means every partition to aiokafka; Faust drops what it did not want. Here aiokafka has a set of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP
from faust.types.transports import ConsumerT


class SettledConsumer(Consumer):  # type: ignore[misc]
    """Resumes the streams' partitions with the flow, once it stands at the committed offsets."""

    _held: set[TP]
    """Partitions of streams that are to be read when everything is in place."""
    _in_place: bool
    """Whether the position was moved since they were held."""

    def _reset_state(self) -> None:
        super()._reset_state()
        self._held, self._in_place = set(), False

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Pause reading; what was held is not to be resumed any more."""
        paused = set(tps)
        self._held -= paused
        self._in_place = False
        super().pause_partitions(paused)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume changelogs now, streams with the flow."""
        resumed = set(tps)
        streams = {tp for tp in resumed if not self._is_changelog_tp(tp)}
        self._held |= streams
        super().resume_partitions(resumed - streams)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        wanted = None if active_partitions is None else frozenset(active_partitions)
        return await super()._getmany(wanted, timeout)

    async def perform_seek(self) -> None:
        """Move to the committed offsets."""
        await super().perform_seek()
        self._in_place = bool(self._held)

    def resume_flow(self) -> None:
        """Let messages through; and read the streams, if everything is in place."""
        super().resume_flow()
        if self._in_place:
            held, self._held, self._in_place = self._held, set(), False
            super().resume_partitions(held)


class SettledTransport(Transport):  # type: ignore[misc]
    """Kafka, read by a ``SettledConsumer``."""

    Consumer: type[ConsumerT] = SettledConsumer


def settled(app: Any) -> SettledTransport:
    """The transport for an app; assign it before the app starts."""
    return SettledTransport(app.conf.broker_consumer, app)
