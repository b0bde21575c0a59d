"""Sending: for each destination a task of its own, so that one which is down holds up nobody else."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import httpx
import orjson

from flywheel.observe import Metrics, logger
from flywheel_notifier.core.destinations import Destination
from flywheel_notifier.core.forms import body_of, headers_of, titles, url_of
from flywheel_notifier.core.telling import Message, Terms, View, messages, told_by
from flywheel_notifier.notebook import Notebook

log = logger("notifier")
BACKOFF_S: Final = 1.0
MOST_BACKOFF_S: Final = 60.0
MOST_ASKED_S: Final = 600.0
"""A destination that asks for more patience than this gets as much as this."""
Outcome = Literal["delivered", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much waits for one destination, and for how long (microseconds) before it is made anew."""

    most_waiting: int
    give_up_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try. ``failed``: the destination is away or too busy; ``refused``: it will not have this."""

    outcome: Outcome
    said: str
    wait_s: float | None = None


class Poster:
    """Makes one destination's messages and posts them, the oldest first; what is not taken waits and is tried again."""

    def __init__(
        self,
        destination: Destination,
        notebook: Notebook,
        client: httpx.AsyncClient,
        metrics: Metrics,
        *,
        terms: Terms,
        limits: Limits,
    ) -> None:
        self._destination, self._notebook, self._client, self._metrics = destination, notebook, client, metrics
        self._terms, self._limits = terms, limits
        self._failures = 0
        self._again_at = 0.0
        self._refusals: dict[str, tuple[int, float]] = {}

    def make(self, now_us: int) -> None:
        """Make the messages that are due. Raises Fatal."""
        name, notebook = self._destination.name, self._notebook
        waiting = notebook.waiting(name)
        told = notebook.told(name)
        view = View(
            notebook.alerts, notebook.acks, told, tuple(notebook.silences.values()),
            frozenset(message.group for message in waiting),
        )  # fmt: skip
        room = self._limits.most_waiting - len(waiting)
        made = messages(view, self._destination, self._terms, now_us, room) if room > 0 else []
        notebook.made(made, {key: each for message in made for key, each in told_by(message, told).items()})
        self._metrics.gauge("notifications_waiting", len(waiting) + len(made), destination=name)

    async def post(self, stop: asyncio.Event) -> None:
        """Post what waits and is due, until the destination fails. Raises Fatal."""
        if time.monotonic() < self._again_at:
            return
        for message in self._notebook.waiting(self._destination.name):
            if stop.is_set():
                return
            tries, again_at = self._refusals.get(message.message_id, (0, 0.0))
            if time.monotonic() < again_at:
                continue
            if time.time_ns() // 1000 - message.made_us > self._limits.give_up_us:
                self._give_up(message)
                continue
            answer = await self._try(message)
            self._count(message, answer)
            if answer.outcome == "delivered":
                self._failures = 0
                self._refusals.pop(message.message_id, None)
                self._notebook.taken(message)
            elif answer.outcome == "refused":
                self._refusals[message.message_id] = (tries + 1, time.monotonic() + _backoff_s(tries))
            else:
                self._again_at = time.monotonic() + (answer.wait_s or _backoff_s(self._failures))
                self._failures += 1
                return

    async def _try(self, message: Message) -> Answer:
        destination, now_ns = self._destination, time.time_ns()
        body = orjson.dumps(body_of(message, destination, now_ns // 1000))
        headers = headers_of(message, destination, body, now_ns // 1_000_000_000)
        try:
            # Only the status counts; what else it says, however much, is not read.
            async with self._client.stream(
                "POST", url_of(destination), content=body, headers=headers, timeout=destination.timeout_s
            ) as response:
                return _answer(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer("failed", f"{type(error).__name__}: {error}"[:200])

    def _give_up(self, message: Message) -> None:
        name = self._destination.name
        log.error("given_up", destination=name, message_id=message.message_id, alerts=titles(message.notes))
        self._metrics.count("notifications_total", 1, destination=name, outcome="given_up")
        self._refusals.pop(message.message_id, None)
        self._notebook.given_up(message)

    def _count(self, message: Message, answer: Answer) -> None:
        name = self._destination.name
        self._metrics.count("notifications_total", 1, destination=name, outcome=answer.outcome)
        self._metrics.gauge("dependency_up", 0 if answer.outcome == "failed" else 1, dependency=name)
        if answer.outcome != "delivered":
            log.warning(answer.outcome, destination=name, message_id=message.message_id, why=answer.said)


def _answer(response: httpx.Response) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer("delivered", str(status))
    if status >= 500 or status in (408, 425, 429):
        return Answer("failed", f"HTTP {status}", _asked_s(response.headers.get("retry-after", "")))
    return Answer("refused", f"HTTP {status}")


def _asked_s(text: str) -> float | None:
    """The seconds that a destination asks to be left alone; None where it asks for none."""
    return min(float(text), MOST_ASKED_S) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _backoff_s(failures: int) -> float:
    """Twice as long each time, within a quarter, so that many do not come back at once."""
    return min(MOST_BACKOFF_S, BACKOFF_S * 2.0 ** min(failures, 16)) * random.uniform(0.75, 1.25)


async def keep_posting(poster: Poster, stop: asyncio.Event, *, tick_s: float, ready: asyncio.Event) -> None:
    """Make and post until ``stop`` is set; nothing is made before ``ready``, what waits from before is posted."""
    while not stop.is_set():
        if ready.is_set():
            poster.make(time.time_ns() // 1000)
        await poster.post(stop)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), tick_s)
