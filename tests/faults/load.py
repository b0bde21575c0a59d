"""A steady load of requests, as a caller makes them: a decision from the router, then calls and feedback to ingest.
What was not acknowledged is posted again, with the same ids, until it is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx

from flywheel.events import Codec, event_id, load_registry
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel.testkit import Ledger

FEATURE: Final = "answers"
CHARTER: Final = f"""
feature: {FEATURE}
quality: {{user.thumb: 1.0}}
weights: {{cost: 0.2}}
arms: [{{name: strong, model: openai/gpt-4o}}, {{name: cheap, model: openai/gpt-4o-mini}}]
policy: {{kind: thompson, half_life: 500 outcomes, explore_floor: 0.05}}
attribution_window: 60s
"""
BUDGET: Final = "answers-month"
TICK_S: Final = 0.1
_AGAIN_S: Final = 0.25
_UNDER_WAY: Final = 40
Items = Sequence[Mapping[str, Any]]


async def publish_budget(bootstrap: str) -> None:
    """Declare a budget of the feature, large enough for anything; and one for each model."""
    now_us = time.time_ns() // 1000
    common = {
        "project": "default", "revision": 1, "occurred_at": now_us, "effective_from": now_us - 3 * 86_400_000_000,
        "scope": {"feature": FEATURE}, "amount_usd": Decimal(10**9), "per": "month", "mode": "soft",
    }  # fmt: skip
    declared = [
        {"event_id": event_id("budget", name), "budget": name, "each": each, **common}
        for name, each in ((BUDGET, []), (f"{BUDGET}-each", ["model"]))
    ]
    await publish(bootstrap, [Output("budgets", f"default/{one['budget']}", "budget", one) for one in declared])


async def publish_charter(bootstrap: str) -> None:
    """Declare the feature."""
    value = {
        "event_id": event_id("charter", CHARTER), "project": "default", "feature": FEATURE, "revision": 1,
        "occurred_at": time.time_ns() // 1000, "charter_yaml": CHARTER, "digest": event_id(CHARTER),
    }  # fmt: skip
    await publish(bootstrap, [Output("charters", f"default/{FEATURE}", "charter", value)])


async def publish(bootstrap: str, outputs: Sequence[Output]) -> None:
    """Put events on their topics."""
    publisher = Publisher(KafkaBus(bootstrap, client_id="load"), Codec(load_registry()), source="faults")
    await publisher.start()
    await publisher.publish(outputs)
    await publisher.stop()


@dataclass
class Load:
    """``per_s`` requests a second until told to stop; ``finished`` when every one of them is acknowledged.

    ``resend`` is the share of acknowledged posts that are posted once more, later, as a client does that did not hear
    the answer.
    """

    urls: Callable[[str], str]
    per_s: int = 100
    resend: float = 0.0
    seed: int = 7
    ledger: Ledger = field(default_factory=Ledger)
    requests: int = 0
    events: int = 0
    posted_again: int = 0
    refused: list[str] = field(default_factory=list)
    reasked: set[str] = field(default_factory=set)
    """Requests whose decision was asked for again, as no answer came: there may be one that nobody heard of."""
    cost_usd: Decimal = Decimal(0)
    passive_usd: Decimal = Decimal(0)
    """What calls without a decision cost: no outcome has it, and budgets count it."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._stop = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._others = 0
        self._later: list[tuple[str, str, Items]] = []

    @property
    def outcomes(self) -> int:
        """Requests that end as outcomes with a reward."""
        return self.requests + self._others

    def joined_too(self, requests: Sequence[str], cost_usd: Decimal) -> None:
        """Requests of another producer, and what all their calls cost together."""
        self._others += len(requests)
        self.cost_usd += cost_usd
        self.ledger.sent("v_outcomes", requests)

    def stop(self) -> None:
        """Begin no more requests."""
        self._stop.set()
        self._going.set()

    def pause(self) -> None:
        """Begin no requests until `resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._going.set()

    async def run(self) -> None:
        """Make requests until stopped; return when all of them are acknowledged."""
        room = asyncio.Semaphore(_UNDER_WAY)
        started = time.monotonic()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http, asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                await room.acquire()
                await self._going.wait()
                size = max(1, round(self.per_s * TICK_S))
                names = [f"request-{self.seed}-{self.requests + n:06d}" for n in range(size)]
                self.requests += size
                group.create_task(self._serve(http, names)).add_done_callback(lambda _: room.release())
                await asyncio.sleep(TICK_S)
            for service, path, items in self._later:
                group.create_task(self._post(http, service, path, items))
        self.seconds = time.monotonic() - started

    async def _serve(self, http: httpx.AsyncClient, names: Sequence[str]) -> None:
        """Some requests from the decision to the feedback."""
        asked = [{"feature": FEATURE, "request_id": name, "default_arm": "strong"} for name in names]
        decisions = await self._post(http, "router", "/v1/decide/batch", asked)
        for decision in decisions:
            self.ledger.sent("llm-decisions", [decision["decision_id"]], key=decision["request_id"])
        again = [decision for decision in decisions if hash_share(decision["request_id"], "again") < 0.3]
        await self._report(http, "llm-calls", "/v1/calls", [self._call(d, 1, d in again) for d in decisions])
        if again:
            await self._report(http, "llm-calls", "/v1/calls", [self._call(d, 2, False) for d in again])
        await self._report(http, "llm-feedback", "/v1/feedback", [self._thumb(d) for d in decisions])
        self.ledger.sent("v_outcomes", names)

    async def _report(self, http: httpx.AsyncClient, topic: str, path: str, items: Items) -> None:
        await self._post(http, "ingest", path, items)
        for item in items:
            self.ledger.sent(topic, [item["event_id"]], key=item["request_id"])
            self.cost_usd += Decimal(item.get("cost_usd", "0"))
        if self._dice.random() < self.resend:
            self._later.append(("ingest", path, items))
        if self._later and self._dice.random() < self.resend:
            _, earlier_path, earlier = self._later.pop(0)
            self.posted_again += 1
            await self._post(http, "ingest", earlier_path, earlier)

    def _call(self, decision: Mapping[str, Any], attempt: int, failed: bool) -> Mapping[str, Any]:
        request = str(decision["request_id"])
        return {
            "event_id": f"call-{attempt}-{request}", "request_id": request, "occurred_at": time.time_ns() // 1000,
            "feature": FEATURE, "provider": "openai", "request_model": "gpt-4o", "attempt": attempt,
            "status": "ERROR" if failed else "OK", "decision_id": decision["decision_id"], "latency_ms": 100.0,
            "cost_usd": f"0.{1 + int(9998 * hash_share(request, str(attempt))):04d}",
        }  # fmt: skip

    def _thumb(self, decision: Mapping[str, Any]) -> Mapping[str, Any]:
        request = str(decision["request_id"])
        better = 0.8 if decision["arm"] == "strong" else 0.4
        return {
            "event_id": f"thumb-{request}", "request_id": request, "occurred_at": time.time_ns() // 1000,
            "feature": FEATURE, "kind": "user.thumb", "value": float(hash_share(request, "thumb") < better),
        }  # fmt: skip

    async def _post(self, http: httpx.AsyncClient, service: str, path: str, items: Items) -> list[dict[str, Any]]:
        """Post until acknowledged. Raises what a wrong answer deserves: nothing here may be refused."""

        def again() -> None:
            self.posted_again += 1
            if service == "router":
                self.reasked.update(item["request_id"] for item in items)

        answer = await post_until_answered(http, lambda: f"{self.urls(service)}{path}", items, again, _decided)
        verdicts: list[dict[str, Any]] = answer.json().get("items", [])
        wrong = [v for v in verdicts if v["status"] not in ("accepted", "duplicate", "decided")]
        if answer.status_code != 200 or wrong:
            self.refused.append(f"{path}: {answer.status_code} {(wrong or [answer.text])[0]}")
        self.events += len(items)
        return verdicts


def _answered(answer: httpx.Response) -> bool:
    return answer.status_code < 500


def _decided(answer: httpx.Response) -> bool:
    """Not where the router says that money may come in a moment: it has just started and has yet to read the budgets,
    or to get a lease. What it decided of the batch gets the same answer when asked again."""
    return _answered(answer) and not any(v.get("reason") == "budget_wait" for v in answer.json().get("items", []))


async def post_until_answered(
    http: httpx.AsyncClient,
    url: Callable[[], str],
    items: Items,
    again: Callable[[], None] = lambda: None,
    enough: Callable[[httpx.Response], bool] = _answered,
) -> httpx.Response:
    """Post items until the answer is ``enough``: by default, not 5xx. ``again`` is called before each new try."""
    while True:
        try:
            answer = await http.post(url(), json={"items": items})
        except httpx.TransportError:
            answer = None
        if answer is not None and enough(answer):
            return answer
        again()
        await asyncio.sleep(_AGAIN_S)


def hash_share(*parts: str) -> float:
    """A number in [0, 1) that belongs to these names and does not change from run to run."""
    return random.Random("/".join(parts)).random()
