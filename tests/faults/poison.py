"""Records that no service can process, put on the topic of calls among good ones, and the dead letters due for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from scene import POISON, Scene

from flywheel.events import Codec, load_registry, topics
from flywheel.local.topic_admin import topic_settings

TOPIC: Final = "llm-calls"
HUGE: Final = 10_000_000
READERS: Final = ("bandit", "budget", "recorder")
IN_A_ROW: Final = 1010
"""A little more than it takes to open a breaker, as the rest goes through one by one."""


def a_call(**fields: Any) -> dict[str, Any]:
    """A call like those of the load, with some fields as they should not be."""
    request = f"{POISON}{time.time_ns()}"
    return {
        "event_id": request, "project": "default", "request_id": request, "feature": "answers",
        "occurred_at": time.time_ns() // 1000, "provider": "openai", "request_model": "gpt-4o", "status": "OK",
        "latency_ms": 100.0, **fields,
    }  # fmt: skip


class Poisoner:
    """A producer of poison; adds to the letters that the scene must find."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._codec = Codec(load_registry())
        self._client: Any = None
        self.sent = 0
        self.first: dict[int, int] = {}
        """The first offset of each partition that holds poison."""

    async def start(self) -> None:
        """Connect, and let the topic take records of 10 MB."""
        bootstrap = self._scene.system.bootstrap
        settings = topic_settings(topics()[TOPIC]) | {"max.message.bytes": str(2 * HUGE)}
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, configs=settings)])
        await admin.close()
        self._client = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2 * HUGE)
        await self._client.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._client.stop()

    async def mixed(self) -> None:
        """One of each kind."""
        call, now_us = a_call(), time.time_ns() // 1000
        thumb = {"kind": "user.thumb", "value": 1.0} | {k: call[k] for k in ("event_id", "request_id", "project")}
        await self._send(b"\x07not our magic", {name: "undecodable" for name in READERS})
        await self._send(self._codec.encode("llm_call", call)[:25], {name: "undecodable" for name in READERS})
        other = self._codec.encode("feedback", thumb | {"occurred_at": now_us})
        await self._send(other, {name: "wrong_event" for name in READERS})
        absurd = {"bandit": "out_of_range", "recorder": "invalid"}
        await self._send(self._codec.encode("llm_call", a_call(latency_ms=-1.0)), absurd)
        future = a_call(occurred_at=now_us + 2 * 86_400_000_000)
        ahead = {"bandit": "time_out_of_range", "budget": "time_out_of_range", "recorder": "invalid"}
        await self._send(self._codec.encode("llm_call", future), ahead)

    async def huge(self) -> None:
        """A record of 10 MB."""
        await self._send(b"\x07" * HUGE, {name: "undecodable" for name in READERS})

    async def nothing_else(self) -> None:
        """So many in a row in one partition that the breaker of each service opens: one batch, so that no good record
        comes in between."""
        batch = self._client.create_batch()
        for _ in range(IN_A_ROW):
            batch.append(key=None, value=b"\x07poison", timestamp=None)
        batch.close()
        at = await (await self._client.send_batch(batch, TOPIC, partition=0))
        for number in range(IN_A_ROW):
            self._note(0, at.offset + number, {name: "undecodable" for name in READERS})

    async def _send(self, value: bytes, reasons: Mapping[str, str]) -> None:
        at = await self._client.send_and_wait(TOPIC, value, key=b"poison-%d" % self.sent)
        self._note(at.partition, at.offset, reasons)

    def _note(self, partition: int, offset: int, reasons: Mapping[str, str]) -> None:
        self.sent += 1
        self.first.setdefault(partition, offset)
        self._scene.letters |= {
            f"{service} {TOPIC}/{partition}/{offset} {reason}" for service, reason in reasons.items()
        }
