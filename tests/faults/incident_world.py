"""Callers of several features, side by side, and the provider they call: one that can be hurt feature by feature.

A caller asks the router for an arm, calls the provider's model, and posts the call, a judge's score and a thumb to
ingest. How an arm answers (``Manner``) is drawn from a seed; an incident is another manner for a while.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
from load import post_until_answered

TICK_S: Final = 0.5
_LONGEST_S: Final = 2.0
"""A caller that was held up does not make up for more than this at once."""
INPUT_TOKENS: Final = 900
OUTPUT_TOKENS: Final = 300
_SPREAD: Final = 0.4
CHARTER: Final = """
feature: {feature}
quality: {{judge.helpful: 0.5, user.thumb: 0.5}}
weights: {{cost: 0.05}}
arms:
  - {{name: strong, model: openai/gpt-4o, prompt: "{feature}@{prompt}", share: 1}}
  - {{name: cheap, model: openai/gpt-4o-mini, prompt: "{feature}@{prompt}", share: 1}}
policy: {{kind: static, default: strong}}
attribution_window: 60s
"""
"""Fixed shares, so that what an arm shows comes from the arm and not from who was sent there."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an arm answers: shares of calls that fail or are refused, the median latency (log-normal around it), what a
    call costs (half to one and a quarter of it), and the means of what the judge says (normal) and of thumbs up.
    ``sure``: the judge always says the same."""

    errors: float = 0.01
    refusals: float = 0.01
    latency_ms: float = 900.0
    cost_usd: float = 0.004
    judge: float = 0.75
    thumb: float = 0.85
    sure: bool = False


ARMS: Final[Mapping[str, Manner]] = {
    "strong": Manner(),
    "cheap": Manner(latency_ms=600.0, cost_usd=0.00024, judge=0.72, thumb=0.82),
}
"""No call costs more than the bound of the tokens asked for: 0.00525 USD of the dearer model, 0.000315 of the other."""


@dataclass
class World:
    """``per_s`` requests a second of each feature, until told to stop. ``urls`` says where a service listens."""

    urls: Callable[[str], str]
    features: Sequence[str]
    per_s: float
    seed: int = 7
    rates: dict[str, float] = field(default_factory=dict)
    """By what the usual number of requests of a feature is multiplied."""
    hurt: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """What is otherwise than usual, by feature and arm."""
    prompts: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """What is otherwise than usual under a prompt version, by feature and version."""
    next_call: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """The same, of the very next call of an arm only."""
    requests: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Requests that no budget could pay, by feature."""
    prompt_of: dict[str, str] = field(default_factory=dict)
    """The prompt version that was asked for last, by feature."""
    wrong: list[str] = field(default_factory=list)
    """Answers that there should not have been."""

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._called_us: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._paid: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._stop = asyncio.Event()

    # -- what is known of it ------------------------------------------------------------------------------------------

    def calls(self, feature: str, arm: str = "", from_us: int = 0, until_us: int | None = None) -> int:
        """Calls of a feature, or of one of its arms, that began in a time."""
        found = 0
        for (name, called), times in self._called_us.items():
            if name == feature and arm in ("", called):
                until = len(times) if until_us is None else bisect_right(times, until_us)
                found += max(0, until - bisect_left(times, from_us))
        return found

    def dearest(self, feature: str, span_s: float) -> float:
        """The most US dollars that a feature's calls cost in any span of time."""
        most, total, start = 0.0, 0.0, 0
        paid = self._paid[feature]
        for at_us, cost in paid:
            total += cost
            while paid[start][0] <= at_us - span_s * 1e6:
                total -= paid[start][1]
                start += 1
            most = max(most, total)
        return most

    # -- how it goes on -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for nothing more."""
        self._stop.set()

    async def run(self) -> None:
        """Make requests until stopped."""
        due, before = defaultdict[str, float](float), time.monotonic()
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            while not self._stop.is_set():
                now = time.monotonic()
                passed, before = min(now - before, _LONGEST_S), now
                names: list[tuple[str, str]] = []
                for feature in self.features:
                    due[feature] += self.per_s * self.rates.get(feature, 1.0) * passed
                    count = int(due[feature])
                    due[feature] -= count
                    names += [(feature, f"{feature}-{self.requests + n:07d}") for n in range(count)]
                    self.requests += count
                for start in range(0, len(names), 500):
                    await self._serve(http, names[start : start + 500])
                await asyncio.sleep(max(0.05, TICK_S - (time.monotonic() - now)))

    async def _serve(self, http: httpx.AsyncClient, names: Sequence[tuple[str, str]]) -> None:
        asked = [
            {
                "feature": feature, "request_id": name, "default_arm": "strong", "default_model": "openai/gpt-4o",
                "input_tokens": INPUT_TOKENS, "max_tokens": OUTPUT_TOKENS,
            }
            for feature, name in names
        ]  # fmt: skip
        decided: list[dict[str, Any]] = []
        for (feature, _), verdict in zip(
            names, await self._post(http, "router", "/v1/decide/batch", asked), strict=True
        ):
            if verdict["status"] == "decided":
                decided.append({"feature": feature, **verdict})
            elif "budget" in verdict:
                self.refused[feature] += 1
            else:
                self.wrong.append(f"decide: {verdict}")
        answered = [self._answer(decision) for decision in decided]
        calls = [call for call, _, _ in answered]
        scores = [score for _, score, _ in answered if score]
        thumbs = [thumb for _, _, thumb in answered if thumb]
        posts = (("/v1/calls", calls), ("/v1/evaluations", scores), ("/v1/feedback", thumbs))
        await asyncio.gather(*(self._report(http, path, items) for path, items in posts if items))

    async def _report(self, http: httpx.AsyncClient, path: str, items: Sequence[Mapping[str, Any]]) -> None:
        verdicts = await self._post(http, "ingest", path, items)
        self.wrong += [f"{path}: {v}" for v in verdicts if v["status"] not in ("accepted", "duplicate")][:3]

    async def _post(
        self, http: httpx.AsyncClient, service: str, path: str, items: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        answer = await post_until_answered(http, lambda: f"{self.urls(service)}{path}", items)
        found: list[dict[str, Any]] = answer.json().get("items", [])
        if not found:
            self.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        return found

    def _manner(self, decision: Mapping[str, Any]) -> Manner:
        cell = (decision["feature"], decision["arm"])
        bad_prompt = self.prompts.get((decision["feature"], str(decision["prompt_version"])), {})
        changed = {**bad_prompt, **self.hurt.get(cell, {}), **self.next_call.pop(cell, {})}
        return replace(ARMS[decision["arm"]], **changed)

    def _answer(self, decision: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The call, the judge's score and the thumb (empty of one that was not answered)."""
        manner, dice, request, now_us = self._manner(decision), self._dice, decision["request_id"], _now_us()
        common = {"request_id": request, "feature": decision["feature"]}
        failed = dice.random() < manner.errors
        refused = not failed and dice.random() < manner.refusals
        cost = 0.0 if failed else manner.cost_usd * dice.uniform(0.5, 1.25)
        provider, _, model = decision["model"].partition("/")
        self._called_us[decision["feature"], decision["arm"]].append(now_us)
        self._paid[decision["feature"]].append((now_us, cost))
        self.prompt_of[decision["feature"]] = str(decision["prompt_version"])
        call = {
            **common, "event_id": f"call-{request}", "occurred_at": now_us, "provider": provider,
            "request_model": model, "decision_id": decision["decision_id"], "status": "ERROR" if failed else "OK",
            "latency_ms": manner.latency_ms * dice.lognormvariate(0.0, _SPREAD), "cost_usd": f"{cost:.9f}",
            "finish_reason": "content_filter" if refused else "stop",
        }  # fmt: skip
        if failed or refused:
            return call, {}, {}
        judged = manner.judge if manner.sure else min(1.0, max(0.0, dice.gauss(manner.judge, 0.12)))
        score = {
            **common, "event_id": f"judged-{request}", "occurred_at": now_us, "evaluator": "judge.helpful",
            "call_id": call["event_id"], "score": judged,
        }  # fmt: skip
        thumb = {
            **common, "event_id": f"thumb-{request}", "occurred_at": now_us, "kind": "user.thumb",
            "value": float(dice.random() < manner.thumb),
        }  # fmt: skip
        return call, score, thumb


def _now_us() -> int:
    return time.time_ns() // 1000
