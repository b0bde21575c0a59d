"""The demo's view of the running system: the client that producers install, and the router's policies."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from flywheel.cli.addresses import Addresses
from flywheel.cli.demo.playing import Choice
from flywheel.client import AsyncFlywheel, Decision
from flywheel.policy import Charter
from flywheel.testkit import Answer


class RunningWheel:
    """Decides and reports through ``flywheel.client``, over HTTP. Recorded latencies are reported, not slept. The model
    asked for is the arm's, whichever version of it answered."""

    def __init__(self, addresses: Addresses, charter: Charter) -> None:
        self._charter = charter
        (self._quality,) = charter.quality
        self._models = {arm.name: arm.model.partition("/")[2] for arm in charter.policy_arms}
        self._router = httpx.AsyncClient(base_url=addresses.router, timeout=10, trust_env=False)
        self._decisions: dict[str, Decision] = {}
        self._client = AsyncFlywheel(
            project=charter.project,
            ingest_url=addresses.ingest,
            router_url=addresses.router,
            app="demo",
            environment="demo",
            decide_timeout_s=10.0,
            linger_s=0.1,
            raise_errors=True,
        )

    async def decide(self, request_id: str) -> Choice:
        decision = await self._client.decide(
            self._charter.feature, request_id=request_id, default_arm=self._charter.default_arm
        )
        self._decisions[request_id] = decision
        return Choice(
            decision_id=decision.decision_id,
            arm=decision.arm,
            propensity=decision.propensity,
            policy_version=decision.policy_version,
            fallback=decision.fallback,
            reason=decision.reason,
        )

    async def report(self, request_id: str, choice: Choice, answer: Answer) -> None:
        decision = self._decisions.pop(request_id)
        asked, provider = self._models[choice.arm], answer.model.provider
        with self._client.call(decision, model=asked, provider=provider, operation="CHAT") as call:
            call.answer(model=answer.model.name)
            call.usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
            if not answer.tokens_counted:
                call.attributes(usage="estimated")
            call.cost(answer.cost_usd)
            if answer.latency_ms is not None:
                call.latency(answer.latency_ms)
        self._client.feedback(
            request_id,
            self._quality,
            answer.correct,
            feature=self._charter.feature,
            decision_id=choice.decision_id,
            source="AUTOMATIC",
        )

    async def learned(self) -> int:
        policy = await self.policy()
        return 0 if policy is None else int(policy["outcomes"])

    async def policy(self) -> dict[str, Any] | None:
        """The policy in force at the router, or none yet."""
        try:
            reply = await self._router.get("/v1/policies", params={"project": self._charter.project})
        except httpx.TransportError:
            return None
        if reply.status_code != 200:
            return None
        policies: list[dict[str, Any]] = orjson.loads(reply.content)["policies"]
        return next((policy for policy in policies if policy["feature"] == self._charter.feature), None)

    async def wait_for_policy(self, patience_s: float) -> dict[str, Any]:
        """The first policy. Raises ``TimeoutError``."""
        async with asyncio.timeout(patience_s):
            while (found := await self.policy()) is None:  # noqa: ASYNC110  the router is elsewhere
                await asyncio.sleep(0.1)
        return found

    async def flush(self) -> bool:
        """Send what still waits; false when not all of it was taken."""
        return await self._client.flush(20.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()
        await self._router.aclose()
