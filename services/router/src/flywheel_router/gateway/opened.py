"""An attempt that has begun to answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel_router.gateway.charging import Attempt
from flywheel_router.gateway.streams import Reader, Splitter
from flywheel_router.gateway.upstream import Broken, Reply

MAX_ANSWER_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Opened:
    """An attempt that has begun to answer: whole, or a stream of which the first events are there."""

    attempt: Attempt
    sent: bytes
    whole: bytes | None = None
    reply: Reply | None = None
    chunks: Any = None
    reader: Reader | None = None
    splitter: Splitter = field(default_factory=Splitter)
    first: list[bytes] = field(default_factory=list)
    started_s: float = 0.0
    retry_after_s: float = 0.0
    error_body: bytes = b""
    status: int = 0


def take(opened: Opened, chunk: bytes) -> list[bytes]:
    """Take bytes of a stream; return what the caller gets of the events that are whole now."""
    reader = opened.reader
    assert reader is not None
    tally, attempt = reader.tally, opened.attempt
    out: list[bytes] = []
    for event in opened.splitter.feed(chunk):
        said = reader.take(event)
        if said is not None:
            out.append(said)
        attempt.answered = True
    if attempt.ttft_ms is None and tally.pieces:
        attempt.ttft_ms = (time.monotonic() - opened.started_s) * 1000
    return out


async def take_first(opened: Opened) -> None:
    """Take a stream up to its first events.

    Raises:
        Broken: it has none.
    """
    async for chunk in opened.chunks:
        opened.first += take(opened, chunk)
        if opened.attempt.answered:
            return
    raise Broken("empty_stream")


async def take_all(opened: Opened) -> None:
    """Take a stream to its end, before the caller gets any of it.

    Raises:
        Broken: it ended early, or is longer than any answer.
    """
    tally, size = opened.attempt.tally, 0
    async for chunk in opened.chunks:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise Broken("answer_too_long")
        opened.first += take(opened, chunk)
        if tally.complete or tally.failed is not None:
            break
    if tally.failed is not None and tally.pieces:
        raise Broken(tally.failed)
    if not (tally.complete or tally.finish_reason or tally.failed):
        raise Broken("stream_ended_early" if opened.attempt.answered else "empty_stream")


async def close(opened: Opened) -> None:
    """Let go of a provider's answer."""
    if opened.reply is not None:
        await opened.reply.close()


async def first_answer(running: list[asyncio.Task[Opened]]) -> Opened:
    """The first that answers; where none does, the first that failed."""
    pending: set[asyncio.Task[Opened]] = set(running)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task in done and task.result().attempt.ending == "ok":
                return task.result()
    return running[0].result()
