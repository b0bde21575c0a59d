"""The gateway's service: from a caller's body to a decided exchange. Shell: the clock, randomness and the log."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flywheel.observe import Metrics
from flywheel.policy import Arm, CompiledPolicy
from flywheel_router.board import PolicyBoard
from flywheel_router.core import Course, NothingUsable, Option
from flywheel_router.decision_log import LogFull
from flywheel_router.gateway.asking import Asked, Endpoint
from flywheel_router.gateway.errors import Refused, of_invalid, of_unaffordable
from flywheel_router.gateway.exchange import Exchange, Means, circuit_key
from flywheel_router.gateway.providers import FORMAT_OF, provider_of
from flywheel_router.reading import RequestInvalid
from flywheel_router.recent import Recent
from flywheel_router.service import DecideService
from flywheel_router.spending import Unaffordable

_NO_PARAMS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class GatewayRules:
    """What an operator sets of the gateway. Times in seconds."""

    project: str = "default"
    deadline_s: float = 120.0
    passthrough: bool = False
    drain: bool = False
    """Whether a stream whose caller left is read to its end (exact usage) or closed (estimated)."""
    key: str | None = None
    """What callers must show; None: nothing."""


class Gateway:
    """Decides requests and makes exchanges of them."""

    def __init__(
        self,
        rules: GatewayRules,
        means: Means,
        service: DecideService,
        board: PolicyBoard,
        metrics: Metrics,
        *,
        remembered: int,
    ) -> None:
        self.rules = rules
        self.means = means
        self.metrics = metrics
        self._service = service
        self._board = board
        self._paid: Recent[str, bool] = Recent(remembered)
        self._callable: dict[tuple[str, str, Endpoint], tuple[CompiledPolicy, tuple[tuple[int, str], ...]]] = {}

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Refuse a caller who does not show the key, where one is set; in the time it takes to compare it."""
        if self.rules.key is None:
            return
        shown = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        if not hmac.compare_digest(shown.encode("latin-1", "replace"), self.rules.key.encode()):
            raise Refused(401, "the gateway's key is missing or wrong", code="invalid_api_key")

    async def exchange(self, asked: Asked, traceparent: str | None) -> Exchange:
        """Decide a request; what comes back has made no call yet.

        Raises:
            Refused: nothing can serve it, or nothing can pay for it.
        """
        if not self.means.recorder.has_room():
            raise Refused(503, "calls cannot be logged now, so none is made", code="log_full", retry_after_s=2.0)
        deadline_s = asyncio.get_running_loop().time() + asked.deadline_s
        try:
            if asked.feature is None:
                return self._by_name(asked, traceparent, deadline_s)
            return await self._decided(asked, traceparent, deadline_s)
        except RequestInvalid as error:
            raise of_invalid(error) from None
        except Unaffordable as error:
            raise of_unaffordable(error) from None
        except NothingUsable:
            raise Refused(
                503, "no arm of the feature can be called now: its provider is not declared, or its circuit is open",
                code="no_arm", retry_after_s=5.0,
            ) from None  # fmt: skip
        except LogFull as error:
            raise Refused(
                503, "nothing can be logged now", code="log_full", retry_after_s=error.retry_after_s
            ) from None

    def features(self, project: str) -> list[str]:
        """The features of a project that have a policy."""
        _, events = self._board.snapshot(project)
        return [event["feature"] for event in events]

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _decided(self, asked: Asked, traceparent: str | None, deadline_s: float) -> Exchange:
        endpoint = asked.endpoint
        decision, request = await self._service.decide_patiently(
            asked.decide, traceparent, "gateway", usable=lambda compiled: self._usable(compiled, endpoint)
        )
        if decision.model is None:
            raise Refused(
                404, f"feature {request.project}/{asked.feature} has no policy, and no default model is named",
                param="model", code="model_not_found",
            )  # fmt: skip
        if decision.reservations:
            if self._paid.get(decision.decision_id):
                raise Refused(
                    409, "this request id was called already, and its reservation pays one call: name another",
                    param="x-request-id", code="request_id_used",
                )  # fmt: skip
            self._paid[decision.decision_id] = True
        course = self._service.course(decision, request)
        return Exchange(self.means, asked, request, decision, course, traceparent=traceparent, deadline_s=deadline_s)

    def _by_name(self, asked: Asked, traceparent: str | None, deadline_s: float) -> Exchange:
        """A model that the caller names: no decision, no reservation; told as a call all the same."""
        found = provider_of(asked.model)
        if not self.rules.passthrough or found is None or found[0] not in self.means.providers:
            raise Refused(
                404, f"there is no model {asked.model[:128]!r} here: ask for flywheel/<feature>",
                param="model", code="model_not_found",
            )  # fmt: skip
        request = self._service.read({**asked.decide, "feature": "-"}, traceparent)._replace(feature="")
        if self._service.bound(request.project):
            raise Refused(
                402, "a budget holds in this project, so only features can be asked for", code="budget_unreserved"
            )
        arm = Arm(asked.model, asked.model, None, None, _NO_PARAMS)
        return Exchange(
            self.means, asked, request, None, Course(Option(arm, None)), traceparent=traceparent, deadline_s=deadline_s
        )

    def _usable(self, compiled: CompiledPolicy, endpoint: Endpoint) -> int:
        """The arms whose provider is declared, speaks the format and is not cut off."""
        key = (compiled.project, compiled.feature, endpoint)
        known = self._callable.get(key)
        if known is None or known[0] is not compiled:
            known = self._callable[key] = (compiled, self._callable_of(compiled, endpoint))
        now_s = asyncio.get_running_loop().time()
        admits = self.means.circuits.admits
        return sum(bit for bit, circuit in known[1] if admits(circuit, now_s))

    def _callable_of(self, compiled: CompiledPolicy, endpoint: Endpoint) -> tuple[tuple[int, str], ...]:
        """The arms that can be called at all, a bit each, with the key of the circuit."""
        wanted, providers = FORMAT_OF[endpoint], self.means.providers
        found = [(1 << place, arm, provider_of(arm.model)) for place, arm in enumerate(compiled.arms)]
        return tuple(
            (bit, circuit_key(compiled.project, compiled.feature, arm.name, True))
            for bit, arm, named in found
            if named is not None and named[0] in providers and wanted in providers[named[0]].formats
        )


def made_id() -> str:
    """An id for a request that has none."""
    return secrets.token_hex(16)
