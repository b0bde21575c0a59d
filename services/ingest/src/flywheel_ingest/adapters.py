"""What ingest calls: Kafka, the clock, and the file that holds the key of user hashes."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final

from flywheel.observe import Health, Metrics, logger
from flywheel.stream import Bus, Output, Publisher, Unavailable
from flywheel_ingest.core import Fact
from flywheel_ingest.items import CONTENT_EVENT, CONTENT_TOPIC, KINDS, Kind
from flywheel_ingest.ports import FactLog, LogAway
from flywheel_ingest.redacting import Redaction

KEY_BYTES: Final = 32
HASH_HEX_DIGITS: Final = 32
RETRY_S: Final = 1.0
KAFKA: Final = "kafka"
ASIDE_CHARS: Final = 16 << 10
"""More text than this, a hundredth of a second of work, is redacted in a thread, so that others are answered."""
LONGEST_POLICY_CHARS: Final = 2_000_000
"""More than a policy may have, so that one that is cut off is refused instead of read in part."""


class KafkaFactLog:
    """Facts to their topics, keyed by request id so that all facts of a request meet in one partition number.

    While Kafka is away a write fails after ``timeout_s``, or at once where it was never reached; ``watch`` goes on
    asking, so that readiness comes back without traffic.
    """

    def __init__(self, bus: Bus, publisher: Publisher, health: Health, *, timeout_s: float) -> None:
        self._bus = bus
        self._publisher = publisher
        self._health = health
        self._timeout_s = timeout_s
        self._connected = False
        self._doubted = asyncio.Event()
        health.set_ready(KAFKA, False, "not connected yet")

    async def write(self, kind: Kind, facts: Sequence[Fact], traceparent: str | None) -> None:
        """See ``FactLog``."""
        if not self._connected:
            raise LogAway(RETRY_S)
        outputs = [Output(kind.topic, fact.event["request_id"], kind.event, fact.event) for fact in facts]
        outputs += [
            Output(CONTENT_TOPIC, fact.content["request_id"], CONTENT_EVENT, fact.content)
            for fact in facts
            if fact.content is not None
        ]
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publisher.publish(outputs, traceparent=traceparent)
        except (Unavailable, TimeoutError) as away:
            self._health.set_ready(KAFKA, False, "did not acknowledge")
            self._doubted.set()
            raise LogAway(getattr(away, "retry_after_s", RETRY_S)) from away

    async def watch(self) -> None:
        """Connect, and after a failed write ask until Kafka answers again; runs until cancelled."""
        while True:
            if not await self.ask():
                await asyncio.sleep(RETRY_S)
                continue
            self._doubted.clear()
            await self._doubted.wait()

    async def ask(self) -> bool:
        """Connect where that is still to do, ask Kafka for our topic, and note in the health whether it answered."""
        try:
            if not self._connected:
                await self._publisher.start()
                self._connected = True
            await self._bus.partitions(KINDS["call"].topic)
        except Unavailable as away:
            self._health.set_ready(KAFKA, False, away.detail)
            logger("ingest.kafka").warning("kafka away", detail=away.detail)
            return False
        self._health.set_ready(KAFKA, True)
        return True

    async def close(self) -> None:
        """Disconnect; what was acknowledged stays, nothing else was promised."""
        if self._connected:
            await self._publisher.stop()


class RedactedLog:
    """A log of facts in front of another: what passes is redacted, whichever door it came in by. One thread redacts
    what takes long, in turn, so that many large batches cannot take the event loop's share of the core."""

    def __init__(self, log: FactLog, redaction: Redaction, metrics: Metrics) -> None:
        self.behind = log
        self._redaction = redaction
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="redact")

    async def write(self, kind: Kind, facts: Sequence[Fact], traceparent: str | None) -> None:
        """See ``FactLog``."""
        if self._redaction.weight(kind.name, facts) > ASIDE_CHARS:
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._thread, self._redaction.redact, kind.name, facts)
        else:
            outcome = self._redaction.redact(kind.name, facts)
        for found, count in outcome.found.items():
            self._metrics.count("ingest_redactions_total", count, kind=found)
        for reason, count in outcome.dropped.items():
            self._metrics.count("ingest_content_dropped_total", count, reason=reason)
        await self.behind.write(kind, outcome.facts, traceparent)


def redaction_policies(path: Path | None) -> tuple[str, str | None]:
    """The policies' text and, where their file cannot be read, why: then nothing can be redacted."""
    if path is None:
        return "", None
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(LONGEST_POLICY_CHARS), None
    except (OSError, UnicodeDecodeError) as error:
        return "", f"the policy file {path} cannot be read: {type(error).__name__}"


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


def user_hasher(key: bytes) -> Callable[[str, str], str]:
    """The keyed hash of a user: HMAC-SHA-256 (RFC 2104) of the user's id, with a key of its own for each project, cut
    to 128 bits. Without the key nobody can try ids, and two projects cannot be joined by their users."""

    @lru_cache(maxsize=1024)
    def project_key(project: str) -> bytes:
        return hmac.digest(key, project.encode(), "sha256")

    def hash_user(project: str, user: str) -> str:
        return hmac.digest(project_key(project), user.encode(), "sha256").hex()[:HASH_HEX_DIGITS]

    return hash_user


def user_hash_key(configured: str | None, state_dir: Path) -> bytes:
    """The configured key, or one of this installation, made once and kept where only its owner can read it.

    Raises:
        OSError: the state folder cannot be written.
    """
    if configured:
        return configured.encode()
    path = state_dir / "ingest" / "user_hash.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f".{os.getpid()}")
    # Written aside and linked: of two processes that start together, both then read the one that was first.
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
    finally:
        os.close(handle)
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return path.read_bytes()
