"""Publishing from a request: encode, send, return when acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.events import Codec, headers
from flywheel.stream.ports import Bus
from flywheel.stream.types import Outgoing, Output


class Publisher:
    """Sends events that carry their own ids; ``source`` goes into the envelope."""

    def __init__(self, bus: Bus, codec: Codec, *, source: str) -> None:
        self._producer, self._codec, self._source = bus.producer(), codec, source

    async def start(self) -> None:
        """Connect. Raises Unavailable."""
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def publish(self, outputs: Sequence[Output], *, traceparent: str | None = None) -> None:
        """Return when the broker has acknowledged all of them.

        Raises:
            Unavailable: not all were acknowledged in time; any may have arrived, so send them again as they are.
            EventInvalid: a value does not fit its schema; nothing was sent.
        """
        await self._producer.send_many([self._frame(output, traceparent) for output in outputs])

    def _frame(self, output: Output, traceparent: str | None) -> Outgoing:
        data = self._codec.encode(output.event, output.value)
        envelope = headers(
            event=output.event,
            event_id=output.value["event_id"],
            source=self._source,
            occurred_at_us=output.value.get("occurred_at"),
            traceparent=traceparent,
        )
        chooser = output.partition_key.encode() if output.partition_key is not None else None
        return Outgoing(output.topic, output.key.encode(), data, envelope, chooser)
